//! The directory of a small company, its own for each decky.

use chrono::{DateTime, Utc};

use super::filter::Filter;
use crate::{
    decoys::sql::Dice,
    persona::{Os, Persona},
};

/// What attackers may add.
const MOST_ADDED: usize = 200;
/// The most values that an entry may have.
const MOST_VALUES: usize = 256;

/// An entry: its name and what it says.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) dn: String,
    pub(super) values: Vec<(String, Vec<String>)>,
    /// What is shown only when it is asked for.
    pub(super) hidden: Vec<(String, Vec<String>)>,
}

impl Entry {
    fn new(dn: impl Into<String>) -> Entry {
        Entry { dn: dn.into(), ..Entry::default() }
    }

    fn with(mut self, name: &str, values: &[&str]) -> Entry {
        self.values.push((name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect()));
        self
    }

    fn hiding(mut self, name: &str, values: &[&str]) -> Entry {
        self.hidden.push((name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect()));
        self
    }

    /// The values of an attribute.
    pub(super) fn get(&self, name: &str) -> Option<&[String]> {
        let found = self.values.iter().chain(&self.hidden).find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, values)| values.as_slice())
    }
}

/// Names are compared without case and spaces after commas.
pub(super) fn folded(dn: &str) -> String {
    dn.split(',').map(|part| part.trim().to_lowercase()).collect::<Vec<_>>().join(",")
}

/// All that the server knows.
pub(super) struct Directory {
    /// The name of its root.
    pub(super) suffix: String,
    /// Such as `example.com`.
    pub(super) domain: String,
    /// Whether it is Active Directory.
    pub(super) active: bool,
    pub(super) root: Entry,
    pub(super) entries: Vec<Entry>,
    added: usize,
}

fn stamp(time: DateTime<Utc>) -> String {
    time.format("%Y%m%d%H%M%SZ").to_string()
}

/// 100 ns since 1601, as Windows counts.
fn ticks(time: DateTime<Utc>) -> String {
    ((time.timestamp() + 11_644_473_600) * 10_000_000).to_string()
}

impl Directory {
    /// The directory of a decky.
    pub(super) fn of(persona: &Persona) -> Directory {
        let mut dice = Dice::new(persona, "ldap");
        let active = matches!(persona.os, Os::WindowsServer2019 | Os::Windows10);
        let (_, last) = dice.person();
        let ends = if active { ["local", "corp", "lan"] } else { ["com", "net", "org"] };
        let company = format!(
            "{}{}",
            last.to_lowercase(),
            dice.pick(&["group", "trading", "logistics", "media", ""]).unwrap_or(&"")
        );
        let domain = match persona.hostname.split_once('.') {
            Some((_, domain)) => domain.to_lowercase(),
            None => format!("{company}.{}", dice.pick(&ends).unwrap_or(&"com")),
        };
        let part = if active { "DC=" } else { "dc=" };
        let suffix = domain.split('.').map(|label| format!("{part}{label}")).collect::<Vec<_>>().join(",");
        let mut directory = Directory { suffix, domain, active, root: Entry::default(), entries: Vec::new(), added: 0 };
        if active {
            directory.fill_active(persona, &mut dice);
        } else {
            directory.fill_open(persona, &mut dice, &company);
        }
        directory
    }

    fn fill_open(&mut self, persona: &Persona, dice: &mut Dice, company: &str) {
        let suffix = self.suffix.clone();
        let made = persona.booted_at - chrono::TimeDelta::days(i64::try_from(dice.below(500)).unwrap_or(0) + 60);
        let admin = format!("cn=admin,{suffix}");
        let mut count = 0_u32;
        let mut keep = |dice: &mut Dice, entries: &mut Vec<Entry>, entry: Entry, kind: &str| {
            count += 1;
            let uuid = {
                let hex = dice.hex(16);
                let cut = |from: usize, to: usize| hex.get(from..to).unwrap_or("").to_owned();
                format!("{}-{}-103e-{}-{}", cut(0, 8), cut(8, 12), cut(16, 20), cut(20, 32))
            };
            let time = made + chrono::TimeDelta::minutes(i64::from(count) * 7);
            let csn = format!("{}.{:06}Z#000000#000#000000", time.format("%Y%m%d%H%M%S"), dice.below(999_999));
            let dn = entry.dn.clone();
            entries.push(
                entry
                    .hiding("structuralObjectClass", &[kind])
                    .hiding("entryUUID", &[&uuid])
                    .hiding("creatorsName", &[&admin])
                    .hiding("createTimestamp", &[&stamp(time)])
                    .hiding("entryCSN", &[&csn])
                    .hiding("modifiersName", &[&admin])
                    .hiding("modifyTimestamp", &[&stamp(time)])
                    .hiding("entryDN", &[&dn])
                    .hiding("subschemaSubentry", &["cn=Subschema"])
                    .hiding(
                        "hasSubordinates",
                        &[if kind == "organization" || kind == "organizationalUnit" { "TRUE" } else { "FALSE" }],
                    ),
            );
        };
        let first_dc = self.domain.split('.').next().unwrap_or("").to_owned();
        let root = Entry::new(&suffix)
            .with("objectClass", &["top", "dcObject", "organization"])
            .with("o", &[company])
            .with("dc", &[&first_dc]);
        keep(dice, &mut self.entries, root, "organization");
        for unit in ["People", "Groups", "Services"] {
            let entry = Entry::new(format!("ou={unit},{suffix}"))
                .with("objectClass", &["organizationalUnit"])
                .with("ou", &[unit]);
            keep(dice, &mut self.entries, entry, "organizationalUnit");
        }
        let mut people = Vec::new();
        for at in 0..14 + dice.below(20) {
            let (first, last) = dice.person();
            let uid = format!("{}{}", first.chars().next().unwrap_or('a').to_ascii_lowercase(), last.to_lowercase());
            if people.contains(&uid) {
                continue;
            }
            let number = (10_000 + at).to_string();
            let title = *dice
                .pick(&["Accountant", "Engineer", "Sales Manager", "Technician", "Office Manager", "Developer"])
                .unwrap_or(&"Engineer");
            let entry = Entry::new(format!("uid={uid},ou=People,{suffix}"))
                .with("objectClass", &["inetOrgPerson", "posixAccount", "shadowAccount"])
                .with("uid", &[&uid])
                .with("sn", &[last])
                .with("givenName", &[first])
                .with("cn", &[&format!("{first} {last}")])
                .with("displayName", &[&format!("{first} {last}")])
                .with("uidNumber", &[&number])
                .with("gidNumber", &["5000"])
                .with("loginShell", &["/bin/bash"])
                .with("homeDirectory", &[&format!("/home/{uid}")])
                .with("mail", &[&format!("{uid}@{}", self.domain)])
                .with("telephoneNumber", &[&format!("+44 20 7946 0{}", dice.digits(3))])
                .with("title", &[title]);
            keep(dice, &mut self.entries, entry, "inetOrgPerson");
            people.push(uid);
        }
        for (at, name) in ["staff", "admins", "vpn", "developers"].iter().enumerate() {
            let members: Vec<&str> =
                people.iter().filter(|_| at == 0 || dice.below(3) == 0).map(String::as_str).collect();
            let number = (5_000 + at).to_string();
            let entry = Entry::new(format!("cn={name},ou=Groups,{suffix}"))
                .with("objectClass", &["posixGroup"])
                .with("cn", &[name])
                .with("gidNumber", &[&number])
                .with("memberUid", &members);
            keep(dice, &mut self.entries, entry, "posixGroup");
        }
        for name in ["backup", "jenkins", "mailrelay"] {
            let entry = Entry::new(format!("cn={name},ou=Services,{suffix}"))
                .with("objectClass", &["simpleSecurityObject", "organizationalRole"])
                .with("cn", &[name])
                .with("description", &["Service account"]);
            keep(dice, &mut self.entries, entry, "organizationalRole");
        }
        self.root = Entry::new("")
            .with("objectClass", &["top", "OpenLDAProotDSE"])
            .hiding("structuralObjectClass", &["OpenLDAProotDSE"])
            .hiding("configContext", &["cn=config"])
            .hiding("namingContexts", &[&self.suffix])
            .hiding(
                "supportedControl",
                &[
                    "2.16.840.1.113730.3.4.18",
                    "2.16.840.1.113730.3.4.2",
                    "1.3.6.1.4.1.4203.1.10.1",
                    "1.3.6.1.1.22",
                    "1.2.840.113556.1.4.319",
                    "1.2.826.0.1.3344810.2.3",
                    "1.3.6.1.1.13.2",
                    "1.3.6.1.1.13.1",
                    "1.3.6.1.1.12",
                ],
            )
            .hiding(
                "supportedExtension",
                &[
                    "1.3.6.1.4.1.4203.1.11.1",
                    "1.3.6.1.4.1.4203.1.11.3",
                    "1.3.6.1.1.8",
                    "1.3.6.1.1.21.3",
                    "1.3.6.1.1.21.1",
                ],
            )
            .hiding(
                "supportedFeatures",
                &[
                    "1.3.6.1.1.14",
                    "1.3.6.1.4.1.4203.1.5.1",
                    "1.3.6.1.4.1.4203.1.5.2",
                    "1.3.6.1.4.1.4203.1.5.3",
                    "1.3.6.1.4.1.4203.1.5.4",
                    "1.3.6.1.4.1.4203.1.5.5",
                ],
            )
            .hiding("supportedLDAPVersion", &["3"])
            .hiding("supportedSASLMechanisms", &["DIGEST-MD5", "NTLM", "CRAM-MD5"])
            .hiding("entryDN", &[""])
            .hiding("subschemaSubentry", &["cn=Subschema"]);
    }

    fn fill_active(&mut self, persona: &Persona, dice: &mut Dice) {
        let suffix = self.suffix.clone();
        let host = persona.hostname.split('.').next().unwrap_or("dc01").to_uppercase();
        let configuration = format!("CN=Configuration,{suffix}");
        let schema = format!("CN=Schema,{configuration}");
        let server = format!("CN={host},CN=Servers,CN=Default-First-Site-Name,CN=Sites,{configuration}");
        let zones = [format!("DC=DomainDnsZones,{suffix}"), format!("DC=ForestDnsZones,{suffix}")];
        let dns = format!("{}.{}", host.to_lowercase(), self.domain);
        let usn = (24_000 + dice.below(90_000)).to_string();
        let now = Utc::now().format("%Y%m%d%H%M%S.0Z").to_string();
        self.root = Entry::new("")
            .with("domainFunctionality", &["7"])
            .with("forestFunctionality", &["7"])
            .with("domainControllerFunctionality", &["7"])
            .with("rootDomainNamingContext", &[&suffix])
            .with(
                "ldapServiceName",
                &[&format!("{}:{}$@{}", self.domain, host.to_lowercase(), self.domain.to_uppercase())],
            )
            .with("isGlobalCatalogReady", &["TRUE"])
            .with("supportedSASLMechanisms", &["GSSAPI", "GSS-SPNEGO", "EXTERNAL", "DIGEST-MD5"])
            .with("supportedLDAPVersion", &["3", "2"])
            .with(
                "supportedLDAPPolicies",
                &[
                    "MaxPoolThreads",
                    "MaxPercentDirSyncRequests",
                    "MaxDatagramRecv",
                    "MaxReceiveBuffer",
                    "InitRecvTimeout",
                    "MaxConnections",
                    "MaxConnIdleTime",
                    "MaxPageSize",
                    "MaxBatchReturnMessages",
                    "MaxQueryDuration",
                    "MaxDirSyncDuration",
                    "MaxTempTableSize",
                    "MaxResultSetSize",
                    "MinResultSets",
                    "MaxResultSetsPerConn",
                    "MaxNotificationPerConn",
                    "MaxValRange",
                    "MaxValRangeTransitive",
                    "ThreadMemoryLimit",
                    "SystemMemoryLimitPercent",
                ],
            )
            .with(
                "supportedControl",
                &[
                    "1.2.840.113556.1.4.319",
                    "1.2.840.113556.1.4.801",
                    "1.2.840.113556.1.4.473",
                    "1.2.840.113556.1.4.528",
                    "1.2.840.113556.1.4.417",
                    "1.2.840.113556.1.4.619",
                    "1.2.840.113556.1.4.841",
                    "1.2.840.113556.1.4.529",
                    "1.2.840.113556.1.4.805",
                    "1.2.840.113556.1.4.521",
                    "1.2.840.113556.1.4.970",
                    "1.2.840.113556.1.4.1338",
                    "1.2.840.113556.1.4.474",
                    "1.2.840.113556.1.4.1339",
                    "1.2.840.113556.1.4.1340",
                    "1.2.840.113556.1.4.1413",
                    "2.16.840.1.113730.3.4.9",
                    "2.16.840.1.113730.3.4.10",
                    "1.2.840.113556.1.4.1504",
                    "1.2.840.113556.1.4.1852",
                    "1.2.840.113556.1.4.802",
                    "1.2.840.113556.1.4.1907",
                    "1.2.840.113556.1.4.1948",
                    "1.2.840.113556.1.4.1974",
                    "1.2.840.113556.1.4.1341",
                    "1.2.840.113556.1.4.2026",
                    "1.2.840.113556.1.4.2064",
                    "1.2.840.113556.1.4.2065",
                    "1.2.840.113556.1.4.2066",
                    "1.2.840.113556.1.4.2090",
                    "1.2.840.113556.1.4.2205",
                    "1.2.840.113556.1.4.2204",
                    "1.2.840.113556.1.4.2206",
                    "1.2.840.113556.1.4.2211",
                    "1.2.840.113556.1.4.2239",
                    "1.2.840.113556.1.4.2255",
                    "1.2.840.113556.1.4.2256",
                    "1.2.840.113556.1.4.2309",
                ],
            )
            .with(
                "supportedCapabilities",
                &[
                    "1.2.840.113556.1.4.800",
                    "1.2.840.113556.1.4.1670",
                    "1.2.840.113556.1.4.1791",
                    "1.2.840.113556.1.4.1935",
                    "1.2.840.113556.1.4.2080",
                    "1.2.840.113556.1.4.2237",
                ],
            )
            .with("subschemaSubentry", &[&format!("CN=Aggregate,{schema}")])
            .with("serverName", &[&server])
            .with("schemaNamingContext", &[&schema])
            .with("namingContexts", &[&suffix, &configuration, &schema, &zones[0], &zones[1]])
            .with("isSynchronized", &["TRUE"])
            .with("highestCommittedUSN", &[&usn])
            .with("dsServiceName", &[&format!("CN=NTDS Settings,{server}")])
            .with("dnsHostName", &[&dns])
            .with("defaultNamingContext", &[&suffix])
            .with("currentTime", &[&now])
            .with("configurationNamingContext", &[&configuration]);
        let made = persona.booted_at - chrono::TimeDelta::days(i64::try_from(dice.below(700)).unwrap_or(0) + 90);
        let when = made.format("%Y%m%d%H%M%S.0Z").to_string();
        let netbios = self.domain.split('.').next().unwrap_or("CORP").to_owned();
        let category = |name: &str| format!("CN={name},{schema}");
        self.entries.push(
            Entry::new(&suffix)
                .with("objectClass", &["top", "domain", "domainDNS"])
                .with("distinguishedName", &[&suffix])
                .with("instanceType", &["5"])
                .with("whenCreated", &[&when])
                .with("name", &[&netbios])
                .with("minPwdLength", &["7"])
                .with("pwdProperties", &["1"])
                .with("lockoutThreshold", &["0"])
                .with("ms-DS-MachineAccountQuota", &["10"])
                .with("dc", &[&netbios]),
        );
        for (name, says) in [
            ("Users", "Default container for upgraded user accounts"),
            ("Computers", "Default container for upgraded computer accounts"),
        ] {
            self.entries.push(
                Entry::new(format!("CN={name},{suffix}"))
                    .with("objectClass", &["top", "container"])
                    .with("cn", &[name])
                    .with("description", &[says])
                    .with("distinguishedName", &[&format!("CN={name},{suffix}")])
                    .with("name", &[name]),
            );
        }
        self.entries.push(
            Entry::new(format!("OU=Domain Controllers,{suffix}"))
                .with("objectClass", &["top", "organizationalUnit"])
                .with("ou", &["Domain Controllers"])
                .with("name", &["Domain Controllers"]),
        );
        self.entries.push(
            Entry::new(format!("CN={host},OU=Domain Controllers,{suffix}"))
                .with("objectClass", &["top", "person", "organizationalPerson", "user", "computer"])
                .with("cn", &[&host])
                .with("sAMAccountName", &[&format!("{host}$")])
                .with("userAccountControl", &["532480"])
                .with("operatingSystem", &["Windows Server 2019 Standard"])
                .with("operatingSystemVersion", &["10.0 (17763)"])
                .with("dNSHostName", &[&dns])
                .with("objectCategory", &[&category("Computer")]),
        );
        let mut users: Vec<(String, String, String, &str)> = vec![
            (
                "Administrator".into(),
                "Administrator".into(),
                "Built-in account for administering the computer/domain".into(),
                "66048",
            ),
            (
                "Guest".into(),
                "Guest".into(),
                "Built-in account for guest access to the computer/domain".into(),
                "66082",
            ),
            ("krbtgt".into(), "krbtgt".into(), "Key Distribution Center Service Account".into(), "514"),
            ("SQL Service".into(), "svc_sql".into(), "SQL Server service account".into(), "66048"),
            ("Backup Service".into(), "svc_backup".into(), "Backup account".into(), "66048"),
        ];
        for _ in 0..16 + dice.below(20) {
            let (first, last) = dice.person();
            let sam = format!("{}.{}", first.to_lowercase(), last.to_lowercase());
            if users.iter().all(|(_, known, _, _)| *known != sam) {
                users.push((format!("{first} {last}"), sam, String::new(), "512"));
            }
        }
        for (name, sam, says, control) in &users {
            let dn = format!("CN={name},CN=Users,{suffix}");
            let set = dice.before(persona.booted_at, 200);
            let logons = dice.below(400).to_string();
            let mut entry = Entry::new(&dn)
                .with("objectClass", &["top", "person", "organizationalPerson", "user"])
                .with("cn", &[name])
                .with("distinguishedName", &[&dn])
                .with("instanceType", &["4"])
                .with("whenCreated", &[&when])
                .with("displayName", &[name])
                .with("name", &[name])
                .with("userAccountControl", &[control])
                .with("pwdLastSet", &[&ticks(set)])
                .with("logonCount", &[&logons])
                .with("sAMAccountName", &[sam])
                .with("sAMAccountType", &["805306368"])
                .with("userPrincipalName", &[&format!("{sam}@{}", self.domain)])
                .with("objectCategory", &[&category("Person")]);
            if !says.is_empty() {
                entry = entry.with("description", &[says]);
            }
            if sam == "svc_sql" {
                entry = entry.with("servicePrincipalName", &[&format!("MSSQLSvc/sql01.{}:1433", self.domain)]);
            }
            if sam == "Administrator" {
                entry = entry.with("adminCount", &["1"]).with(
                    "memberOf",
                    &[
                        &format!("CN=Domain Admins,CN=Users,{suffix}"),
                        &format!("CN=Enterprise Admins,CN=Users,{suffix}"),
                    ],
                );
            }
            self.entries.push(entry);
        }
        for (name, says) in [
            ("Domain Admins", "Designated administrators of the domain"),
            ("Domain Users", "All domain users"),
            ("Domain Computers", "All workstations and servers joined to the domain"),
            ("Enterprise Admins", "Designated administrators of the enterprise"),
            ("DnsAdmins", "DNS Administrators Group"),
        ] {
            let dn = format!("CN={name},CN=Users,{suffix}");
            self.entries.push(
                Entry::new(&dn)
                    .with("objectClass", &["top", "group"])
                    .with("cn", &[name])
                    .with("description", &[says])
                    .with("member", &[&format!("CN=Administrator,CN=Users,{suffix}")])
                    .with("distinguishedName", &[&dn])
                    .with("sAMAccountName", &[name])
                    .with("objectCategory", &[&category("Group")]),
            );
        }
    }

    /// The entries below a name that fit; none when there is no such name. Scopes: 0 itself, 1 its children, 2 all below.
    pub(super) fn search(&self, base: &str, scope: i64, filter: &Filter) -> Option<Vec<&Entry>> {
        let base = folded(base);
        if base.is_empty() {
            return match scope {
                0 => Some(if filter.fits(&self.root) { vec![&self.root] } else { Vec::new() }),
                // Nothing is above the suffix.
                _ if self.active => Some(Vec::new()),
                _ => None,
            };
        }
        self.entries.iter().find(|entry| folded(&entry.dn) == base)?;
        let below = format!(",{base}");
        let fits = self.entries.iter().filter(|entry| {
            let dn = folded(&entry.dn);
            let itself = dn == base;
            let inner = dn.strip_suffix(&below);
            let within = match scope {
                0 => itself,
                1 => inner.is_some_and(|rest| !rest.contains(',')),
                3 => inner.is_some(),
                _ => itself || inner.is_some(),
            };
            within && filter.fits(entry)
        });
        Some(fits.collect())
    }

    /// The name that exists nearest above another.
    pub(super) fn nearest(&self, dn: &str) -> String {
        let folded_dn = folded(dn);
        let mut rest = folded_dn.as_str();
        while let Some((_, above)) = rest.split_once(',') {
            if let Some(entry) = self.entries.iter().find(|entry| folded(&entry.dn) == above) {
                return entry.dn.clone();
            }
            rest = above;
        }
        String::new()
    }

    /// Adds an entry; the code of the result.
    pub(super) fn add(&mut self, dn: &str, values: Vec<(String, Vec<String>)>) -> i64 {
        let name = folded(dn);
        if self.entries.iter().any(|entry| folded(&entry.dn) == name) {
            return 68;
        }
        let above = name.split_once(',').map_or("", |(_, above)| above);
        if !self.entries.iter().any(|entry| folded(&entry.dn) == above) {
            return 32;
        }
        if self.added >= MOST_ADDED {
            return 80;
        }
        self.added += 1;
        self.entries.push(Entry { dn: dn.to_owned(), values, hidden: Vec::new() });
        0
    }

    /// Removes an entry; the code of the result.
    pub(super) fn remove(&mut self, dn: &str) -> i64 {
        let name = folded(dn);
        let below = format!(",{name}");
        if self.entries.iter().any(|entry| folded(&entry.dn).ends_with(&below)) {
            return 66;
        }
        let before = self.entries.len();
        self.entries.retain(|entry| folded(&entry.dn) != name);
        if self.entries.len() == before { 32 } else { 0 }
    }

    /// Changes values of an entry: adds (0), removes (1) or replaces (2); the code of the result.
    pub(super) fn modify(&mut self, dn: &str, changes: Vec<(i64, String, Vec<String>)>) -> i64 {
        let name = folded(dn);
        let Some(entry) = self.entries.iter_mut().find(|entry| folded(&entry.dn) == name) else { return 32 };
        for (kind, attribute, values) in changes {
            let room = entry.values.len() < MOST_VALUES;
            let known = entry.values.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&attribute));
            match (kind, known) {
                (0, Some((_, known))) if known.len() + values.len() <= MOST_VALUES => known.extend(values),
                (1, Some((_, known))) if values.is_empty() => known.clear(),
                (1, Some((_, known))) => known.retain(|value| !values.contains(value)),
                (2, Some((_, known))) => *known = values,
                (0 | 2, None) if room => entry.values.push((attribute, values)),
                (1, None) => return 16,
                _ => return 80,
            }
            entry.values.retain(|(_, values)| !values.is_empty());
        }
        0
    }
}
