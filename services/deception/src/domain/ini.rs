//! What a deployment says, read from INI: sections, keys and values, each with the line where it stands. All that is
//! wrong with it is told at once, with line and section.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    archetypes::{self, Archetype, FAMILIES, SYSTEMS},
    names::{MAX_NAME, is_name},
    settings::{Interval, MAX_DEPLOYMENT_LIMIT},
};

/// A deployment is never longer, in bytes.
pub(crate) const MAX_BYTES: usize = 512 * 1024;
/// What one section may make.
const MAX_AMOUNT: usize = 100;
/// What one `[decky.service]` may set.
const MAX_OPTIONS: usize = 32;
const MAX_OPTION_VALUE: usize = 1024;
/// Told at once; the rest is counted.
const MAX_PROBLEMS: usize = 20;

const GENERAL: &str = "general";
/// `/deckies/deploy` is a route of its own beside `/deckies/{name}`.
const DEPLOY: &str = "deploy";
const GENERAL_KEYS: [&str; 4] = ["net", "gw", "interface", "sensor"];
const DECKY_KEYS: [&str; 6] = ["ip", "services", "archetype", "nmap_os", "mutate_interval", "amount"];

/// Options of a decky's services: service → key → value.
pub(crate) type Options = BTreeMap<String, BTreeMap<String, String>>;

/// What is wrong with a deployment, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// From 1.
    pub(crate) line: usize,
    /// Empty before the first section.
    pub(crate) section: String,
    pub(crate) what: String,
}

/// All that is wrong with a deployment.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) first: Vec<Problem>,
    pub(crate) more: usize,
}

impl Problems {
    pub(crate) fn add(&mut self, at: &Place, what: impl Into<String>) {
        if self.first.len() < MAX_PROBLEMS {
            self.first.push(Problem { line: at.line, section: at.section.clone(), what: what.into() });
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

/// Where something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) section: String,
}

/// What a deployment wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deployment {
    pub(crate) net: Option<IpNet>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: Option<String>,
    /// The name of the sensor that is to host it.
    pub(crate) sensor: Option<String>,
    pub(crate) deckies: Vec<Wanted>,
}

/// A decky that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) at: Place,
    pub(crate) name: String,
    /// With where it stands.
    pub(crate) ip: Option<(IpAddr, Place)>,
    /// Without repetitions; none: chosen for it.
    pub(crate) services: Option<Vec<&'static str>>,
    pub(crate) archetype: Option<&'static Archetype>,
    pub(crate) nmap_os: Option<String>,
    pub(crate) mutate_interval: Option<Interval>,
    pub(crate) options: Options,
}

/// A section as it stands.
struct Section<'a> {
    at: Place,
    /// Lower-case key → line and value.
    values: BTreeMap<String, (usize, &'a str)>,
}

impl Section<'_> {
    /// Where that line is.
    fn line(&self, line: usize) -> Place {
        Place { line, section: self.at.section.clone() }
    }

    fn value(&self, key: &str) -> Option<(&str, Place)> {
        self.values.get(key).map(|(line, value)| (*value, self.line(*line)))
    }

    fn only(&self, keys: &[&str], problems: &mut Problems) {
        for (key, (line, _)) in &self.values {
            if !keys.contains(&key.as_str()) {
                let text = format!("there is no key '{}' here; the keys are {}", shown(key), keys.join(", "));
                problems.add(&self.line(*line), text);
            }
        }
    }
}

/// Reads a deployment.
pub(crate) fn parse(text: &str) -> Result<Deployment, Problems> {
    let mut problems = Problems::default();
    let sections = sections(text, &mut problems);
    let mut deployment = Deployment::default();
    let mut options: HashMap<&str, Vec<&Section<'_>>> = HashMap::new();
    let mut plain = Vec::new();
    for section in &sections {
        match section.at.section.split_once('.') {
            Some((decky, _)) => options.entry(decky).or_default().push(section),
            None if section.at.section == GENERAL => general(section, &mut deployment, &mut problems),
            None => plain.push(section),
        }
    }
    let mut names = BTreeSet::new();
    for section in plain {
        let begin = deployment.deckies.len();
        decky(section, &mut deployment, &mut problems);
        let own = options.remove(section.at.section.as_str()).unwrap_or_default();
        let own = service_options(&own, deployment.deckies.get(begin), &mut problems);
        let mut repeated = Vec::new();
        for wanted in deployment.deckies.iter_mut().skip(begin) {
            wanted.options.clone_from(&own);
            if !names.insert(wanted.name.clone()) {
                repeated.push(wanted.name.clone());
            }
        }
        for name in repeated {
            problems.add(&section.at, format!("the name '{name}' is used twice"));
        }
        if deployment.deckies.len() > many() {
            problems.add(&section.at, format!("there can never be more than {MAX_DEPLOYMENT_LIMIT} deckies"));
            return Err(problems);
        }
    }
    for section in options.into_values().flatten() {
        let decky = section.at.section.split('.').next().unwrap_or_default();
        problems.add(&section.at, format!("there is no section [{}] to which this belongs", shown(decky)));
    }
    addresses(&deployment, &mut problems);
    if deployment.deckies.is_empty() && problems.is_empty() {
        problems.add(&Place { line: 1, section: String::new() }, "there is no decky: write a section with its name");
    }
    // In the order of the text, whatever was looked at first.
    problems.first.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok(deployment) } else { Err(problems) }
}

fn many() -> usize {
    usize::try_from(MAX_DEPLOYMENT_LIMIT).unwrap_or(0)
}

/// What a message shows of what somebody wrote.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn sections<'a>(text: &'a str, problems: &mut Problems) -> Vec<Section<'a>> {
    let mut sections: Vec<Section<'a>> = Vec::new();
    let mut known = BTreeSet::new();
    // Lines of a section that was refused are passed over: they would only repeat the same problem.
    let mut inside = false;
    let mut refused = false;
    for (index, line) in text.trim_start_matches('\u{feff}').split('\n').enumerate() {
        let line_number = index + 1;
        let line = line.trim();
        let here = |sections: &[Section<'_>]| match sections.last() {
            Some(section) if inside => section.line(line_number),
            _ => Place { line: line_number, section: String::new() },
        };
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            problems.add(&here(&sections), "there is a control character");
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            (inside, refused) = (false, true);
            let Some(name) = rest.strip_suffix(']') else {
                problems.add(&Place { line: line_number, section: String::new() }, "a section is written [name]");
                continue;
            };
            let at = Place { line: line_number, section: shown(name.trim()) };
            let (decky, service) = match name.trim().split_once('.') {
                Some((decky, service)) => (decky, Some(service)),
                None => (name.trim(), None),
            };
            if !is_name(decky) {
                let text = format!(
                    "the name of a decky has a to z, 0 to 9 and -, does not begin with -, and is at most {MAX_NAME} long"
                );
                problems.add(&at, text);
            } else if decky == DEPLOY && service.is_none() {
                problems.add(&at, "no decky is called 'deploy': its page is the one that deploys");
            } else if let Some(unknown) = service.filter(|service| archetypes::service(service).is_none()) {
                problems.add(&at, unknown_service(unknown));
            } else if !known.insert(name.trim()) {
                let text =
                    if service.is_none() && decky != GENERAL { "the name is used twice" } else { "it is there twice" };
                problems.add(&at, text);
            } else {
                sections.push(Section { at, values: BTreeMap::new() });
                (inside, refused) = (true, false);
            }
            continue;
        }
        let at = here(&sections);
        let Some((key, value)) = line.split_once(['=', ':']) else {
            problems.add(&at, "neither a section nor 'key = value'");
            continue;
        };
        let Some(section) = sections.last_mut().filter(|_| inside) else {
            if !refused {
                problems.add(&at, "a key before the first section");
            }
            continue;
        };
        let key = key.trim().to_ascii_lowercase();
        if section.values.insert(key.clone(), (line_number, value.trim())).is_some() {
            problems.add(&at, format!("the key '{}' is there twice", shown(&key)));
        }
    }
    sections
}

fn general(section: &Section<'_>, deployment: &mut Deployment, problems: &mut Problems) {
    section.only(&GENERAL_KEYS, problems);
    if let Some((text, at)) = section.value("net") {
        match text.parse::<IpNet>() {
            Ok(net) => deployment.net = Some(net.trunc()),
            Err(_) => problems.add(&at, format!("'{}' is no network; one is 192.0.2.0/24", shown(text))),
        }
    }
    if let Some((text, at)) = section.value("gw") {
        match text.parse::<IpAddr>() {
            Ok(gateway) => {
                if deployment.net.is_some_and(|net| !net.contains(&gateway)) {
                    problems.add(&at, format!("the gateway {gateway} is outside of the net"));
                }
                deployment.gateway = Some(gateway);
            }
            Err(_) => problems.add(&at, format!("'{}' is no address", shown(text))),
        }
    }
    if let Some((text, at)) = section.value("interface") {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
        if text.is_empty() || text.len() > 15 || !text.bytes().all(good) {
            problems.add(&at, format!("'{}' is no name of a network interface", shown(text)));
        } else {
            deployment.interface = Some(text.to_owned());
        }
    }
    if let Some((text, at)) = section.value("sensor") {
        if text.is_empty() || text.chars().count() > 100 {
            problems.add(&at, "the name of a sensor has 1 to 100 characters");
        } else {
            deployment.sensor = Some(text.to_owned());
        }
    }
}

/// Adds the deckies of a section.
fn decky(section: &Section<'_>, deployment: &mut Deployment, problems: &mut Problems) {
    section.only(&DECKY_KEYS, problems);
    let ip = section.value("ip").and_then(|(text, at)| match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
            problems.add(&at, format!("{ip} is no address of a machine"));
            None
        }
        Ok(ip) => Some((ip, at)),
        Err(_) => {
            problems.add(&at, format!("'{}' is no address", shown(text)));
            None
        }
    });
    let services = section.value("services").and_then(|(text, at)| services(text, &at, problems));
    let archetype = section.value("archetype").and_then(|(text, at)| {
        let known = archetypes::archetype(text);
        if known.is_none() {
            let names: Vec<_> = archetypes::ARCHETYPES.iter().map(|a| a.name).collect();
            problems.add(&at, format!("unknown archetype '{}'; there are {}", shown(text), names.join(", ")));
        }
        known
    });
    let nmap_os = section.value("nmap_os").and_then(|(text, at)| {
        let known = archetypes::family(text).is_some();
        if !known {
            let names: Vec<_> = FAMILIES.into_iter().chain(SYSTEMS.map(|(system, _)| system)).collect();
            problems.add(&at, format!("unknown nmap_os '{}'; there are {}", shown(text), names.join(", ")));
        }
        known.then(|| text.to_owned())
    });
    let mutate_interval = section.value("mutate_interval").and_then(|(text, at)| {
        // Minutes; with a unit it is what the API takes.
        let minutes = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        let written = if minutes { format!("{text}m") } else { text.to_owned() };
        match written.parse::<Interval>() {
            Ok(interval) => Some(interval),
            Err(_) => {
                let text =
                    format!("bad mutate_interval '{}': it is in minutes, from 1 to those of 100 years", shown(text));
                problems.add(&at, text);
                None
            }
        }
    });
    let amount = section.value("amount").and_then(|(text, at)| {
        let amount = text.parse::<usize>().ok().filter(|amount| (1..=MAX_AMOUNT).contains(amount));
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        if amount.is_none() || !digits {
            problems.add(&at, format!("bad amount '{}': it is 1 to {MAX_AMOUNT}", shown(text)));
            return None;
        }
        if section.values.contains_key("ip") {
            problems.add(&at, "amount and ip do not go together: each decky has its own address");
        }
        amount
    });
    // Told above, and once is enough.
    let ip = ip.filter(|_| amount.is_none());
    let name = &section.at.section;
    let names: Vec<String> = match amount {
        None => vec![name.clone()],
        Some(amount) => (1..=amount).map(|number| format!("{name}-{number:02}")).collect(),
    };
    if names.iter().any(|name| name.len() > MAX_NAME) {
        problems.add(&section.at, format!("with its number the name is longer than {MAX_NAME}"));
    }
    deployment.deckies.extend(names.into_iter().map(|name| Wanted {
        at: section.at.clone(),
        name,
        ip: ip.clone(),
        services: services.clone(),
        archetype,
        nmap_os: nmap_os.clone(),
        mutate_interval: mutate_interval.clone(),
        options: Options::new(),
    }));
}

fn services(text: &str, at: &Place, problems: &mut Problems) -> Option<Vec<&'static str>> {
    let mut services = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match archetypes::service(&name.to_ascii_lowercase()) {
            Some((service, _)) if services.contains(&service) => {}
            Some((service, _)) => services.push(service),
            None => problems.add(at, unknown_service(name)),
        }
    }
    if services.is_empty() && text.split(',').all(|name| name.trim().is_empty()) {
        problems.add(at, "names no service; without the key, services are chosen");
    }
    Some(services)
}

fn unknown_service(name: &str) -> String {
    let names: Vec<_> = archetypes::SERVICES.iter().map(|(name, _)| *name).collect();
    format!("unknown service '{}'; there are {}", shown(name), names.join(", "))
}

/// The options of the services of the deckies of one section, the first of which is given.
fn service_options(sections: &[&Section<'_>], wanted: Option<&Wanted>, problems: &mut Problems) -> Options {
    let mut options = Options::new();
    let mut ports: HashMap<u16, &str> = archetypes::SERVICES.into_iter().map(|(name, port)| (port, name)).collect();
    for section in sections {
        let Some((_, service)) = section.at.section.split_once('.') else { continue };
        // What it serves, or what it may come to serve.
        let serves = |wanted: &Wanted| match (&wanted.services, wanted.archetype) {
            (Some(services), None) => services.contains(&service),
            (Some(services), Some(archetype)) => services.contains(&service) || archetype.pool.contains(&service),
            (None, Some(archetype)) => archetype.pool.contains(&service),
            (None, None) => true,
        };
        if wanted.is_some_and(|wanted| !serves(wanted)) {
            problems.add(&section.at, format!("the decky has no service '{service}'"));
        }
        if section.values.len() > MAX_OPTIONS {
            problems.add(&section.at, format!("there are more than {MAX_OPTIONS} options"));
            continue;
        }
        let mut own = BTreeMap::new();
        for (key, (line, value)) in &section.values {
            let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
            if key.is_empty() || key.len() > 64 || !key.bytes().all(good) {
                problems.add(&section.line(*line), "the name of an option has a to z, 0 to 9, _ and -");
            } else if value.len() > MAX_OPTION_VALUE {
                problems.add(&section.line(*line), format!("a value is at most {MAX_OPTION_VALUE} bytes long"));
            } else if key == "port" {
                match value.parse::<u16>() {
                    Ok(port) if port > 0 => {
                        if let Some(other) = ports.insert(port, service).filter(|other| *other != service) {
                            problems.add(&section.line(*line), format!("port {port} is that of {other}"));
                        }
                    }
                    _ => problems.add(&section.line(*line), "a port is 1 to 65535"),
                }
            }
            own.insert(key.clone(), (*value).to_owned());
        }
        options.insert(service.to_owned(), own);
    }
    options
}

/// Addresses that were given: inside of the net, each once.
fn addresses(deployment: &Deployment, problems: &mut Problems) {
    let mut known: HashMap<IpAddr, &str> = HashMap::new();
    for wanted in &deployment.deckies {
        let Some((ip, at)) = &wanted.ip else { continue };
        match deployment.net {
            Some(net) if !net.contains(ip) => problems.add(at, format!("the address {ip} is outside of the net {net}")),
            Some(net) if !is_host(&net, *ip) => {
                problems.add(at, format!("the address {ip} is the net {net} itself, or all of it"));
            }
            _ => {}
        }
        if deployment.gateway == Some(*ip) {
            problems.add(at, format!("the address {ip} is that of the gateway"));
        }
        if let Some(other) = known.insert(*ip, &wanted.name) {
            problems.add(at, format!("the address {ip} is used twice: [{other}] has it"));
        }
    }
}

/// Whether a machine of that net can have the address.
pub(crate) fn is_host(net: &IpNet, ip: IpAddr) -> bool {
    let whole = net.max_prefix_len() - net.prefix_len() <= 1;
    net.contains(&ip) && (whole || (ip != net.network() && (ip.is_ipv6() || ip != net.broadcast())))
}

#[cfg(test)]
#[path = "ini_tests.rs"]
mod tests;
