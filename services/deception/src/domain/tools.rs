//! Which tools an attacker seems to use.

use super::{
    behavior::{Class, Stats},
    facts::Facts,
};

/// Beginnings of SSH and other client banners, in small letters, behind `SSH-2.0-` where that is there.
const BANNERS: &[(&str, &str)] = &[
    ("libssh2", "libssh2"),
    ("libssh", "libssh"),
    ("paramiko", "paramiko"),
    ("asyncssh", "asyncssh"),
    ("go", "go_ssh"),
    ("jsch", "jsch"),
    ("sshj", "sshj"),
    ("apache-sshd", "apache_sshd"),
    ("russh", "russh"),
    ("thrussh", "russh"),
    ("putty", "putty"),
    ("winscp", "winscp"),
    ("nmap", "nmap"),
    ("zgrab", "zgrab"),
    ("ruby/net::ssh", "ruby_net_ssh"),
    ("hydra", "hydra"),
    ("medusa", "medusa"),
    ("ncrack", "ncrack"),
    ("phpseclib", "phpseclib"),
    ("renci.sshnet", "sshnet"),
    ("dropbear", "dropbear"),
    ("openssh", "openssh"),
    ("twisted", "twisted"),
    ("ssh2js", "node_ssh2"),
    ("masscan", "masscan"),
];

/// Parts of User-Agents in small letters; those with a `^` at the beginning only.
const AGENTS: &[(&str, &str)] = &[
    ("nmap scripting engine", "nmap"),
    ("sqlmap", "sqlmap"),
    ("nikto", "nikto"),
    ("masscan", "masscan"),
    ("zgrab", "zgrab"),
    ("nuclei", "nuclei"),
    ("gobuster", "gobuster"),
    ("feroxbuster", "feroxbuster"),
    ("fuzz faster u fool", "ffuf"),
    ("dirbuster", "dirbuster"),
    ("wfuzz", "wfuzz"),
    ("wpscan", "wpscan"),
    ("whatweb", "whatweb"),
    ("acunetix", "acunetix"),
    ("nessus", "nessus"),
    ("openvas", "openvas"),
    ("qualys", "qualys"),
    ("arachni", "arachni"),
    ("zap/", "zap"),
    ("(hydra)", "hydra"),
    ("censysinspect", "censys"),
    ("shodan", "shodan"),
    ("expanse", "expanse"),
    ("leakix", "leakix"),
    ("internetmeasurement", "internet_measurement"),
    ("metasploit", "metasploit"),
    ("gophish", "gophish"),
    ("mirai", "mirai"),
    ("^curl/", "curl"),
    ("^wget/", "wget"),
    ("^python-requests/", "python_requests"),
    ("^python-urllib/", "python_urllib"),
    ("^python/", "python"),
    ("aiohttp/", "aiohttp"),
    ("^python-httpx/", "httpx_python"),
    ("httpx - open-source project", "httpx"),
    ("^go-http-client/", "go_http"),
    ("^java/", "java"),
    ("^okhttp/", "okhttp"),
    ("^axios/", "axios"),
    ("^node-fetch", "node_fetch"),
    ("^libwww-perl/", "libwww_perl"),
    ("^ruby", "ruby"),
    ("^httpie/", "httpie"),
    ("^postmanruntime/", "postman"),
    ("windowspowershell/", "powershell"),
    ("^docker/", "docker"),
    ("docker-client/", "docker"),
];

/// What some tools that call home do when nobody sets them otherwise, as published of them: seconds between calls with
/// their tolerance, variation with its tolerance.
const BEACONS: &[(&str, f64, f64, f64, f64)] = &[
    ("cobalt_strike", 60.0, 8.0, 0.20, 0.05),
    ("sliver", 60.0, 10.0, 0.30, 0.08),
    ("havoc", 45.0, 8.0, 0.10, 0.03),
    ("mythic", 30.0, 6.0, 0.15, 0.03),
];

/// The tools that an event names, by its client's banner or User-Agent, or by the scan that was recognised.
pub(crate) fn named(facts: &Facts) -> Vec<&'static str> {
    let mut tools = Vec::new();
    if let Some(banner) = &facts.client_banner {
        let banner = banner.to_lowercase();
        let software = banner.strip_prefix("ssh-").and_then(|rest| rest.split_once('-')).map_or(&*banner, |(_, s)| s);
        tools.extend(BANNERS.iter().find(|(beginning, _)| software.starts_with(beginning)).map(|(_, tool)| *tool));
    }
    if let Some(agent) = &facts.user_agent {
        let agent = agent.to_lowercase();
        tools.extend(AGENTS.iter().find(|(part, _)| fits(&agent, part)).map(|(_, tool)| *tool));
    }
    if let Some(kind) = &facts.kind {
        let known = ["nmap", "masscan", "zgrab", "zmap"];
        tools.extend(known.into_iter().filter(|tool| kind.to_lowercase().starts_with(tool)));
    }
    tools
}

fn fits(agent: &str, part: &str) -> bool {
    match part.strip_prefix('^') {
        Some(beginning) => agent.starts_with(beginning),
        None => agent.contains(part),
    }
}

/// The tools whose rhythm this is.
pub(crate) fn by_timing(stats: &Stats, class: Class) -> Vec<&'static str> {
    let (Some(mean), Some(cv)) = (stats.mean_iat_s, stats.cv) else { return Vec::new() };
    if class != Class::Beaconing {
        return Vec::new();
    }
    let near = |value: f64, of: f64, by: f64| (value - of).abs() <= by + 1e-9;
    let matching = BEACONS.iter().filter(|(_, interval, slack, variation, spread)| {
        near(mean, *interval, *slack) && near(cv, *variation, *spread)
    });
    matching.map(|(tool, ..)| *tool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_agent(agent: &str) -> Vec<&'static str> {
        named(&Facts { user_agent: Some(agent.into()), ..Facts::default() })
    }

    fn by_banner(banner: &str) -> Vec<&'static str> {
        named(&Facts { client_banner: Some(banner.into()), ..Facts::default() })
    }

    #[test]
    fn banners_and_agents_name_tools() {
        assert_eq!(by_banner("SSH-2.0-libssh2_1.10.0"), ["libssh2"]);
        assert_eq!(by_banner("SSH-2.0-libssh_0.10.4"), ["libssh"]);
        assert_eq!(by_banner("SSH-2.0-Go"), ["go_ssh"]);
        assert_eq!(by_banner("SSH-2.0-OpenSSH_9.2p1 Debian-2"), ["openssh"]);
        assert_eq!(by_banner("something else"), Vec::<&str>::new());
        assert_eq!(
            by_agent("Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)"),
            ["nmap"]
        );
        assert_eq!(by_agent("sqlmap/1.7.9#stable (https://sqlmap.org)"), ["sqlmap"]);
        assert_eq!(by_agent("curl/8.1.2"), ["curl"]);
        assert_eq!(by_agent("not-curl/1.0"), Vec::<&str>::new());
        assert_eq!(by_agent("Mozilla/5.0 (Windows NT 10.0)"), Vec::<&str>::new());
        let scan = Facts { kind: Some("nmap_probe".into()), ..Facts::default() };
        assert_eq!(named(&scan), ["nmap"]);
    }

    #[test]
    fn rhythms_name_tools() {
        let stats = |mean, cv| Stats { mean_iat_s: Some(mean), cv: Some(cv), ..Stats::default() };
        let of = |mean, cv| by_timing(&stats(mean, cv), Class::Beaconing);
        assert_eq!(of(60.0, 0.2), ["cobalt_strike"]);
        assert_eq!(of(60.0, 0.25), ["cobalt_strike", "sliver"]);
        assert_eq!(of(45.0, 0.1), ["havoc"]);
        assert_eq!(of(30.0, 0.15), ["mythic"]);
        assert_eq!(of(5.0, 0.1), Vec::<&str>::new());
        assert_eq!(by_timing(&stats(60.0, 0.2), Class::SlowScan), Vec::<&str>::new());
        assert_eq!(by_timing(&Stats::default(), Class::Beaconing), Vec::<&str>::new());
    }
}
