//! What `search` means: tokens that must all hold.

use super::event::{Event, address};

/// Longest search, characters.
const MAX_CHARS: usize = 1_000;
/// Most tokens.
const MAX_TOKENS: usize = 20;

/// The shortest id of a session that is found without its key, bytes.
pub(crate) const MIN_SESSION: usize = 8;

/// Tokens that must all hold; none holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Search {
    /// A key and the text that it must have.
    pub(crate) keyed: Vec<(Key, String)>,
    /// Texts that must be somewhere, in lower case.
    pub(crate) anywhere: Vec<String>,
}

/// What a `key:value` compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Decky,
    Service,
    EventType,
    AttackerIp,
    AttackerPort,
    Session,
    Technique,
    /// A field of that name.
    Field(String),
}

impl Key {
    fn of(name: &str) -> Key {
        match name {
            "decky" => Key::Decky,
            "service" => Key::Service,
            "event" | "event_type" => Key::EventType,
            "attacker" | "attacker_ip" => Key::AttackerIp,
            "attacker_port" => Key::AttackerPort,
            "session" | "session_id" => Key::Session,
            "technique" | "mitre_id" => Key::Technique,
            field => Key::Field(field.to_owned()),
        }
    }
}

impl Search {
    /// Reads what somebody typed; an error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Search, String> {
        if text.chars().count() > MAX_CHARS {
            return Err(format!("must have at most {MAX_CHARS} characters"));
        }
        let mut search = Search::default();
        for token in tokens(text) {
            if search.keyed.len() + search.anywhere.len() == MAX_TOKENS {
                return Err(format!("must have at most {MAX_TOKENS} tokens"));
            }
            match token {
                Token::Bare(text) => search.anywhere.push(text.to_lowercase()),
                Token::Keyed(name, value) => {
                    let key = Key::of(&name);
                    let value = match key {
                        Key::AttackerIp => address(&value).unwrap_or(value),
                        _ => value,
                    };
                    search.keyed.push((key, value));
                }
            }
        }
        Ok(search)
    }

    /// Whether it holds for everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.keyed.is_empty() && self.anywhere.is_empty()
    }

    /// Whether it holds for an event.
    pub(crate) fn matches(&self, event: &Event) -> bool {
        self.keyed.iter().all(|(key, value)| holds(key, value, event)) && self.anywhere_matches(event)
    }

    fn anywhere_matches(&self, event: &Event) -> bool {
        if self.anywhere.is_empty() {
            return true;
        }
        let mut left: Vec<&str> = self.anywhere.iter().map(String::as_str).collect();
        // An id of a session is found whole, not by a part.
        left.retain(|word| word.len() < MIN_SESSION || *word != event.session_id);
        let mut folded = String::new();
        texts(event, |text| {
            if !left.is_empty() {
                fold(text, &mut folded);
                left.retain(|word| !folded.contains(word));
            }
        });
        left.is_empty()
    }
}

fn holds(key: &Key, value: &str, event: &Event) -> bool {
    match key {
        Key::Decky => event.decky == value,
        Key::Service => event.service == value,
        Key::EventType => event.event_type == value,
        Key::AttackerIp => event.attacker_ip == value,
        Key::AttackerPort => value.parse() == Ok(event.attacker_port),
        Key::Session => event.session_id == value,
        Key::Technique => event.techniques().any(|id| id == value),
        Key::Field(name) => event.fields.pairs().iter().any(|(key, text)| key == name && text == value),
    }
}

/// Every text in which something is looked for that may be anywhere.
pub(crate) fn texts<'a>(event: &'a Event, mut take: impl FnMut(&'a str)) {
    take(&event.msg);
    for (_, value) in event.fields.pairs() {
        take(value);
    }
    take(&event.decky);
    take(&event.service);
    take(event.event_type);
    take(&event.attacker_ip);
    take(&event.techniques);
}

/// A text in lower case, into `to`.
pub(crate) fn fold(text: &str, to: &mut String) {
    to.clear();
    if text.is_ascii() {
        to.push_str(text);
        to.make_ascii_lowercase();
    } else {
        *to = text.to_lowercase();
    }
}

enum Token {
    Bare(String),
    Keyed(String, String),
}

/// Tokens with spaces between them; quotes keep spaces, `\"` is a quote.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.peek().copied() {
        if first.is_whitespace() {
            chars.next();
            continue;
        }
        let mut token = String::new();
        let mut quoted = false;
        let mut colon = None;
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted && matches!(chars.peek(), Some('"' | '\\')) => token.extend(chars.next()),
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted => break,
                ':' if !quoted && colon.is_none() => {
                    colon = Some(token.len());
                    token.push(c);
                }
                c => token.push(c),
            }
        }
        // Quotes before the colon make it a plain text.
        let keyed = colon.filter(|_| first != '"').and_then(|at| {
            let (key, value) = (token.get(..at)?, token.get(at + 1..)?);
            is_key(key, value, &token).then(|| (key.to_ascii_lowercase(), value.to_owned()))
        });
        match keyed {
            Some((key, value)) => tokens.push(Token::Keyed(key, value)),
            None if token.is_empty() => {}
            None => tokens.push(Token::Bare(token)),
        }
    }
    tokens
}

/// Addresses of all kinds, and URLs, have colons too.
fn is_key(key: &str, value: &str, token: &str) -> bool {
    let named = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let hex = |c: char| c.is_ascii_hexdigit() || c == ':';
    let address = token.chars().filter(|c| *c == ':').count() > 1 && token.chars().all(hex);
    named && !value.is_empty() && !value.starts_with("//") && !address
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::domain::event::{Raw, RawFields};

    fn event() -> Event {
        let raw = Raw {
            decky: "web-01".into(),
            service: "ssh".into(),
            event_type: "auth_fail".into(),
            attacker_ip: "2001:db8::1".into(),
            attacker_port: 4_242,
            session_id: "0196-aaaa".into(),
            msg: "Failed password for Root from there".into(),
            fields: RawFields::Json(r#"{"username":"root","password":"a b\"c","url":"http://192.0.2.1/x.sh"}"#.into()),
            ..Raw::default()
        };
        let mut event = raw.sound(Utc::now(), b"");
        event.techniques = "T1110.001 T1078".into();
        event
    }

    #[test]
    fn all_tokens_must_hold() {
        for good in [
            "",
            "   ",
            "decky:web-01 service:ssh event:auth_fail attacker:2001:db8::1",
            "attacker:2001:0db8:0::1 attacker_port:4242 session:0196-aaaa technique:T1078",
            "username:root password:\"a b\\\"c\"",
            "PASSW failed ROOT",
            "\"password for root\"",
            "http://192.0.2.1 x.sh",
            "url:http://192.0.2.1/x.sh",
            "2001:db8::1",
            "t1110",
            "ssh web auth_fail \"a B\"",
            "0196-aaaa",
        ] {
            assert!(Search::parse(good).unwrap().matches(&event()), "{good}");
        }
        for bad in [
            "decky:web",
            "service:ssh event:connect",
            "username:Root",
            "username:roo",
            "\"root password\"",
            "nowhere",
            "technique:T1110",
            "attacker_port:42420",
            "\"username:root\"",
            "nothing:root",
            "0196-aaa",
            "username",
        ] {
            assert!(!Search::parse(bad).unwrap().matches(&event()), "{bad}");
        }
    }

    #[test]
    fn what_only_looks_like_a_key_is_a_text() {
        for text in ["http://x", "fe80::1", "aa:bb:cc:dd:ee:ff", "12:30", "key:", ":x", "\"a:b\"", "\"a b\":c"] {
            let search = Search::parse(text).unwrap();
            assert_eq!((search.keyed.len(), search.anywhere.len()), (0, 1), "{text}");
        }
        let search = Search::parse("Event:connect key:\"a b\" open:\"x y").unwrap();
        let field = |name: &str| Key::Field(name.to_owned());
        let keyed = [(Key::EventType, "connect"), (field("key"), "a b"), (field("open"), "x y")];
        assert_eq!(search.keyed, keyed.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn a_search_has_bounds() {
        assert!(Search::parse(&"a ".repeat(20)).is_ok());
        assert!(Search::parse(&"a ".repeat(21)).unwrap_err().contains("20"));
        assert!(Search::parse(&"a".repeat(1_001)).unwrap_err().contains("1000"));
    }
}
