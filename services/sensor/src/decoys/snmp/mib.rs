//! The tree of values of an agent.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    decoys::{ber, sql::Dice, wire::Bytes},
    persona::{Os, Persona},
    shell::{Facts, Machine},
};

/// The longest name.
const LONGEST: usize = 64;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Int(i64),
    Text(Vec<u8>),
    Name(Vec<u32>),
    Address([u8; 4]),
    Counter(u32),
    Gauge(u32),
    /// Hundredths of a second.
    Ticks(i64),
    /// Hundredths of a second since the agent's start.
    Uptime,
    /// The same since the machine's start.
    SystemUptime,
    /// A counter that grows with time: its value at the start, and how fast.
    Growing(u32, u32),
    NoObject,
    NoInstance,
    EndOfView,
}

impl Value {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Value::Int(number) => ber::put_int(out, 2, *number),
            Value::Text(text) => ber::put(out, 4, text),
            Value::Name(name) => ber::put(out, 6, &encoded(name)),
            Value::Address(address) => ber::put(out, 0x40, address),
            Value::Counter(number) | Value::Growing(number, _) => ber::put_unsigned(out, 0x41, u64::from(*number)),
            Value::Gauge(number) => ber::put_unsigned(out, 0x42, u64::from(*number)),
            // They wrap after 497 days.
            Value::Ticks(ticks) => ber::put_unsigned(out, 0x43, u64::try_from(ticks & 0xffff_ffff).unwrap_or(0)),
            Value::Uptime | Value::SystemUptime => ber::put_unsigned(out, 0x43, 0),
            Value::NoObject => ber::put(out, 0x80, b""),
            Value::NoInstance => ber::put(out, 0x81, b""),
            Value::EndOfView => ber::put(out, 0x82, b""),
        }
    }
}

/// A name from its bytes.
pub(super) fn name(bytes: &[u8]) -> Option<Vec<u32>> {
    let mut left = Bytes(bytes);
    let first = u32::from(left.byte()?);
    let mut name = vec![(first / 40).min(2), first - (first / 40).min(2) * 40];
    let mut number = 0_u32;
    let mut open = false;
    while let Some(byte) = left.byte() {
        number = number.checked_mul(128)?.checked_add(u32::from(byte & 0x7f))?;
        open = byte & 0x80 != 0;
        if !open {
            name.push(number);
            number = 0;
            if name.len() > LONGEST {
                return None;
            }
        }
    }
    (!open).then_some(name)
}

/// A name as bytes.
pub(super) fn encoded(name: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let (first, second) = (name.first().copied().unwrap_or(1), name.get(1).copied().unwrap_or(3));
    out.extend(u8::try_from(first.saturating_mul(40).saturating_add(second)));
    for number in name.iter().skip(2) {
        let mut digits = Vec::new();
        let mut left = *number;
        loop {
            digits.push(u8::try_from(left & 0x7f).unwrap_or(0));
            left >>= 7;
            if left == 0 {
                break;
            }
        }
        for (at, digit) in digits.iter().enumerate().rev() {
            out.push(if at > 0 { digit | 0x80 } else { *digit });
        }
    }
    out
}

/// A name for people.
pub(super) fn shown(name: &[u32]) -> String {
    name.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// The tree.
pub(super) struct Mib {
    values: BTreeMap<Vec<u32>, Value>,
    started: DateTime<Utc>,
    booted: DateTime<Utc>,
    windows: bool,
}

impl Mib {
    /// The tree of a decky.
    pub(super) fn of(persona: &Arc<Persona>) -> Mib {
        let windows = matches!(persona.os, Os::WindowsServer2019 | Os::Windows10);
        let host = if windows { persona.hostname.to_uppercase() } else { persona.hostname.clone() };
        let mut dice = Dice::new(persona, "snmp");
        let mut values = BTreeMap::new();
        let mut put = |base: &[u32], rest: &[u32], value: Value| {
            values.insert([&[1, 3, 6, 1, 2, 1], base, rest].concat(), value);
        };
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        let (described, kind): (String, Vec<u32>) = match persona.os {
            Os::WindowsServer2019 => (
                "Hardware: AMD64 Family 25 Model 1 Stepping 1 AT/AT COMPATIBLE - Software: Windows Version 6.3 (Build 17763 \
                 Multiprocessor Free)"
                    .to_owned(),
                vec![1, 3, 6, 1, 4, 1, 311, 1, 1, 3, 1, 2],
            ),
            Os::Windows10 => (
                "Hardware: AMD64 Family 25 Model 1 Stepping 1 AT/AT COMPATIBLE - Software: Windows Version 6.3 (Build 19045 \
                 Multiprocessor Free)"
                    .to_owned(),
                vec![1, 3, 6, 1, 4, 1, 311, 1, 1, 3, 1, 1],
            ),
            other => {
                // The same that its shell says of itself.
                let facts = Facts::of(other);
                let last = if other == Os::FreeBsd13 { 8 } else { 10 };
                (
                    format!(
                        "{} {host} {} {} {}",
                        facts.kernel_name, facts.kernel, facts.kernel_version, facts.machine
                    ),
                    vec![1, 3, 6, 1, 4, 1, 8_072, 3, 2, last],
                )
            }
        };
        let (first, last) = dice.person();
        let places = [
            "Server room",
            "Rack 3, DC1",
            "HQ 2nd floor",
            "Comms room B",
            "Basement rack",
            "Sitting on the Dock of the Bay",
        ];
        put(&[1], &[1, 0], Value::Text(described.into_bytes()));
        put(&[1], &[2, 0], Value::Name(kind));
        put(&[1], &[3, 0], Value::Uptime);
        put(&[1], &[4, 0], text(&format!("{first} {last} <{}@{}>", last.to_lowercase(), host.to_lowercase())));
        put(&[1], &[5, 0], text(&host));
        put(&[1], &[6, 0], text(dice.pick(&places).copied().unwrap_or("Server room")));
        put(&[1], &[7, 0], Value::Int(if windows { 76 } else { 72 }));

        let mac: Vec<u8> = persona.mac.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
        let card = if windows { "Red Hat VirtIO Ethernet Adapter" } else { Facts::of(persona.os).interface };
        let loopback = if windows {
            "Software Loopback Interface 1"
        } else if persona.os == Os::FreeBsd13 {
            "lo0"
        } else {
            "lo"
        };
        put(&[2], &[1, 0], Value::Int(2));
        for (index, name, kind, mtu, speed, address) in
            [(1, loopback, 24, 65_536, 10_000_000, Vec::new()), (2, card, 6, 1_500, 1_000_000_000, mac)]
        {
            let received = u32::try_from(dice.below(900_000_000)).unwrap_or(0);
            let fast = if index == 2 { 900 } else { 40 };
            put(&[2, 2, 1], &[1, index], Value::Int(i64::from(index)));
            put(&[2, 2, 1], &[2, index], text(name));
            put(&[2, 2, 1], &[3, index], Value::Int(kind));
            put(&[2, 2, 1], &[4, index], Value::Int(mtu));
            put(&[2, 2, 1], &[5, index], Value::Gauge(speed));
            put(&[2, 2, 1], &[6, index], Value::Text(address));
            put(&[2, 2, 1], &[7, index], Value::Int(1));
            put(&[2, 2, 1], &[8, index], Value::Int(1));
            put(&[2, 2, 1], &[10, index], Value::Growing(received, fast));
            put(&[2, 2, 1], &[11, index], Value::Growing(received / 700, fast / 90 + 1));
            put(&[2, 2, 1], &[13, index], Value::Counter(0));
            put(&[2, 2, 1], &[14, index], Value::Counter(0));
            put(&[2, 2, 1], &[16, index], Value::Growing(received / 2, fast / 2));
            put(&[2, 2, 1], &[17, index], Value::Growing(received / 1_500, fast / 120 + 1));
        }
        put(&[4], &[1, 0], Value::Int(2));
        put(&[4], &[2, 0], Value::Int(64));
        let mut addresses = vec![([127, 0, 0, 1], 1, [255, 0, 0, 0])];
        if let IpAddr::V4(ip) = persona.ip
            && !ip.is_loopback()
        {
            addresses.push((ip.octets(), 2, [255, 255, 255, 0]));
        }
        for (address, index, mask) in addresses {
            let key: Vec<u32> = address.iter().map(|part| u32::from(*part)).collect();
            put(&[4, 20, 1, 1], &key, Value::Address(address));
            put(&[4, 20, 1, 2], &key, Value::Int(index));
            put(&[4, 20, 1, 3], &key, Value::Address(mask));
        }
        put(&[25, 1], &[1, 0], Value::SystemUptime);
        put(&[25, 1], &[5, 0], Value::Gauge(1));
        put(&[25, 1], &[6, 0], Value::Gauge(97 + u32::try_from(dice.below(60)).unwrap_or(0)));
        let memory = i64::try_from(Machine::of(persona).memory()).unwrap_or(0);
        put(&[25, 2], &[2, 0], Value::Int(memory));
        let stores = if windows {
            [("C:\\ Label:  Serial Number 5c2f1a9e", 4_096, 15_603_455), ("Physical Memory", 65_536, memory / 64)]
        } else {
            [("Physical memory", 1_024, memory), ("/", 4_096, 5_127_828)]
        };
        for (index, (name, unit, size)) in (1..).zip(stores) {
            put(&[25, 2, 3, 1], &[1, index], Value::Int(i64::from(index)));
            put(&[25, 2, 3, 1], &[3, index], text(name));
            put(&[25, 2, 3, 1], &[4, index], Value::Int(unit));
            put(&[25, 2, 3, 1], &[5, index], Value::Int(size));
            put(&[25, 2, 3, 1], &[6, index], Value::Int(size / 3));
        }
        let processes: &[(&str, &str)] = if windows {
            &[
                ("System Idle Process", ""),
                ("System", ""),
                ("svchost.exe", "C:\\Windows\\system32\\"),
                ("lsass.exe", ""),
                ("spoolsv.exe", "C:\\Windows\\System32\\"),
                ("snmp.exe", "C:\\Windows\\System32\\"),
            ]
        } else {
            &[
                ("systemd", "/sbin/init"),
                ("systemd-journal", "/lib/systemd/systemd-journald"),
                ("cron", "/usr/sbin/cron"),
                ("rsyslogd", "/usr/sbin/rsyslogd"),
                ("sshd", "/usr/sbin/sshd"),
                ("snmpd", "/usr/sbin/snmpd"),
            ]
        };
        let mut pid = 1;
        for (name, path) in processes {
            put(&[25, 4, 2, 1], &[1, pid], Value::Int(i64::from(pid)));
            put(&[25, 4, 2, 1], &[2, pid], text(name));
            put(&[25, 4, 2, 1], &[4, pid], text(path));
            put(&[25, 4, 2, 1], &[6, pid], Value::Int(4));
            put(&[25, 4, 2, 1], &[7, pid], Value::Int(2));
            pid += 190 + u32::try_from(dice.below(120)).unwrap_or(0);
        }
        let started = persona.booted_at + chrono::TimeDelta::seconds(13);
        Mib { values, started, booted: persona.booted_at, windows }
    }

    /// Hundredths of a second since the agent's start.
    pub(super) fn uptime(&self) -> i64 {
        (Utc::now() - self.started).num_milliseconds().max(0) / 10
    }

    fn now(&self, value: &Value) -> Value {
        match value {
            Value::Uptime => Value::Ticks(self.uptime()),
            Value::SystemUptime => Value::Ticks((Utc::now() - self.booted).num_milliseconds().max(0) / 10),
            Value::Growing(first, speed) => {
                let seconds = u32::try_from(self.uptime() / 100).unwrap_or(0);
                Value::Counter(first.wrapping_add(speed.wrapping_mul(seconds)))
            }
            other => other.clone(),
        }
    }

    /// A value.
    pub(super) fn get(&self, name: &[u32]) -> Option<Value> {
        self.values.get(name).map(|value| self.now(value))
    }

    /// The value after a name.
    pub(super) fn next(&self, name: &[u32]) -> Option<(Vec<u32>, Value)> {
        let after = (std::ops::Bound::Excluded(name.to_vec()), std::ops::Bound::Unbounded);
        self.values.range(after).next().map(|(name, value)| (name.clone(), self.now(value)))
    }

    /// Whether an object has that name, with another instance.
    pub(super) fn has_object(&self, name: &[u32]) -> bool {
        let Some((_, object)) = name.split_last() else { return false };
        self.next(object).is_some_and(|(found, _)| found.starts_with(object))
    }

    /// How often the agent started.
    pub(super) fn boots(&self, persona: &Persona) -> i64 {
        i64::try_from(persona.number("snmp boots", 40)).unwrap_or(0) + 3
    }

    /// The name of the engine: of the enterprise, then its own.
    pub(super) fn engine(&self, persona: &Persona) -> Vec<u8> {
        let own = persona.secret("snmp engine");
        if self.windows {
            // By its network card.
            let mac = persona.mac.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok());
            return [0x80, 0, 0x01, 0x37, 3].into_iter().chain(mac).collect();
        }
        // As net-snmp makes it: at random, and the time when it was made.
        let made = u32::try_from((self.booted - chrono::TimeDelta::days(70)).timestamp()).unwrap_or(0);
        [0x80, 0, 0x1f, 0x88, 0x80]
            .into_iter()
            .chain(own.into_iter().take(4))
            .chain(made.to_le_bytes())
            .chain([0; 4])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_there_and_back() {
        let long = vec![1, 3, 6, 1, 4, 1, 8_072, 3, 2, 10, 4_294_967_295];
        assert_eq!(name(&encoded(&long)), Some(long));
        assert_eq!(name(&[0x2b, 0x86]), None);
        assert_eq!(name(&[0x2b, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), None);
        assert_eq!(name(&[]), None);
    }
}
