//! Which credentials a decky lets in: a few weak ones of its own, the same at each start.

use super::Options;
use crate::persona::Persona;

/// How many of the common credentials a decky lets in when nothing else is said.
const OWN: u64 = 3;
/// The most that `credentials` of a service may list.
const MOST: usize = 64;

/// The credentials that one service of a decky lets in. The same pair has always the same outcome.
#[derive(Clone)]
pub struct Credentials(Rule);

#[derive(Clone)]
enum Rule {
    Any,
    Listed(Vec<(String, String)>),
}

impl Credentials {
    /// By the options of the service: `auth = any` lets everybody in, `auth = none` nobody; else it is the pairs of
    /// `credentials = user:password, user:password`, and without those two to four of `common`, which are what is tried
    /// on such a service most.
    pub fn new(
        persona: &Persona,
        service: &str,
        options: &Options,
        common: &[(&str, &str)],
    ) -> Result<Credentials, String> {
        match options.get("auth").map(|mode| mode.trim()) {
            Some("any") => return Ok(Credentials(Rule::Any)),
            Some("none") => return Ok(Credentials(Rule::Listed(Vec::new()))),
            None | Some("list") => {}
            Some(other) => return Err(format!("auth must be any, none or list, not {other}")),
        }
        let Some(listed) = options.get("credentials") else {
            return Ok(Credentials(Rule::Listed(Self::own(persona, service, common))));
        };
        let mut pairs = Vec::new();
        for pair in listed.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (user, password) =
                pair.split_once(':').ok_or_else(|| format!("credentials: {pair} is not user:password"))?;
            pairs.push((user.to_owned(), password.to_owned()));
            if pairs.len() > MOST {
                return Err(format!("credentials: at most {MOST}"));
            }
        }
        Ok(Credentials(Rule::Listed(pairs)))
    }

    fn own(persona: &Persona, service: &str, common: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut own: Vec<(String, String)> = Vec::new();
        for n in 0..2 + persona.number(&format!("credentials {service} count"), OWN) {
            if let Some((user, password)) = persona.pick(&format!("credentials {service} {n}"), common) {
                let pair = ((*user).to_owned(), (*password).to_owned());
                if !own.contains(&pair) {
                    own.push(pair);
                }
            }
        }
        own
    }

    /// Whether this pair is let in.
    pub fn accepts(&self, username: &str, password: &str) -> bool {
        match &self.0 {
            Rule::Any => true,
            Rule::Listed(pairs) => pairs.iter().any(|(user, secret)| user == username && secret == password),
        }
    }

    /// Whether everybody is let in: for protocols that never see the password itself.
    pub fn any(&self) -> bool {
        matches!(self.0, Rule::Any)
    }

    /// The pairs that are let in: for protocols whose answer is compared with what the password would give.
    pub fn pairs(&self) -> &[(String, String)] {
        match &self.0 {
            Rule::Any => &[],
            Rule::Listed(pairs) => pairs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persona(seed: u8) -> Persona {
        Persona {
            id: uuid::Uuid::nil(),
            name: "decky".into(),
            ip: std::net::Ipv4Addr::LOCALHOST.into(),
            hostname: "web01".into(),
            archetype: "web-server".into(),
            os: crate::persona::Os::Debian12,
            booted_at: chrono::DateTime::UNIX_EPOCH,
            mac: "00:16:3e:00:00:01".into(),
            services: Default::default(),
            seed: [seed; 32],
        }
    }

    const COMMON: [(&str, &str); 4] = [("root", "123456"), ("admin", "admin"), ("root", "root"), ("test", "test")];

    #[test]
    fn a_decky_keeps_to_its_own_pairs() {
        let options = Options::new();
        let once = Credentials::new(&persona(1), "ssh", &options, &COMMON).unwrap();
        let again = Credentials::new(&persona(1), "ssh", &options, &COMMON).unwrap();
        assert!(!once.pairs().is_empty());
        assert_eq!(once.pairs(), again.pairs());
        for (user, password) in once.pairs() {
            assert!(once.accepts(user, password));
        }
        assert!(!once.accepts("root", "correct horse battery staple"));
        assert!(
            (2..40).any(|n| Credentials::new(&persona(n), "ssh", &options, &COMMON).unwrap().pairs() != once.pairs())
        );
    }

    #[test]
    fn options_say_otherwise() {
        let with = |pairs: &[(&str, &str)]| {
            let options = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Credentials::new(&persona(1), "ssh", &options, &COMMON)
        };
        assert!(with(&[("auth", "any")]).unwrap().accepts("a", "b"));
        assert!(!with(&[("auth", "none")]).unwrap().accepts("root", "root"));
        let listed = with(&[("credentials", "ann:pa:ss, bob:x")]).unwrap();
        assert!(listed.accepts("ann", "pa:ss") && listed.accepts("bob", "x") && !listed.accepts("root", "root"));
        assert!(with(&[("credentials", "ann")]).is_err());
        assert!(with(&[("auth", "maybe")]).is_err());
    }
}
