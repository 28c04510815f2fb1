//! The texts of a machine's files.

use chrono::Utc;

use super::{
    Facts, Family, Machine, User,
    accounts::{group, passwd, shadow},
    daemons, processes,
    tree::Maker,
};
use crate::decoys::ssh::keys::HostKeys;

fn hostname(machine: &Machine, _: &[User]) -> String {
    format!("{}\n", machine.persona().hostname)
}

fn hosts(machine: &Machine, _: &[User]) -> String {
    let host = &machine.persona().hostname;
    match machine.facts().family {
        Family::Debian => format!(
            "127.0.0.1\tlocalhost\n127.0.1.1\t{host}\n\n# The following lines are desirable for IPv6 capable hosts\n::1     localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
        ),
        Family::RedHat => "127.0.0.1   localhost localhost.localdomain localhost4 localhost4.localdomain4\n::1         localhost localhost.localdomain localhost6 localhost6.localdomain6\n".to_owned(),
        _ => format!("127.0.0.1\tlocalhost\n127.0.1.1\t{host}\n"),
    }
}

fn resolv(machine: &Machine, _: &[User]) -> String {
    if machine.facts().id == "ubuntu" {
        return "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n".to_owned();
    }
    format!("nameserver {}\n", machine.gateway())
}

fn fstab(machine: &Machine, _: &[User]) -> String {
    let uuid = uuid::Builder::from_random_bytes({
        let mut bytes = [0; 16];
        bytes.copy_from_slice(machine.persona().secret("root file system").get(..16).unwrap_or(&[0; 16]));
        bytes
    })
    .into_uuid();
    match machine.facts().family {
        Family::BusyBox => "/dev/root\t/\text4\trw,noauto\t0\t1\nproc\t/proc\tproc\tdefaults\t0\t0\ntmpfs\t/tmp\ttmpfs\tmode=1777\t0\t0\nsysfs\t/sys\tsysfs\tdefaults\t0\t0\n".to_owned(),
        Family::Bsd => "# Device\tMountpoint\tFStype\tOptions\tDump\tPass#\n/dev/vtbd0p2\t/\tufs\trw\t1\t1\n".to_owned(),
        _ => format!("UUID={uuid} /               ext4    errors=remount-ro 0       1\n/dev/sda5       none            swap    sw              0       0\n"),
    }
}

fn crontab(_: &Machine, _: &[User]) -> String {
    "SHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin\n\n17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }\n47 6\t* * 7\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }\n".to_owned()
}

fn machine_id(machine: &Machine, _: &[User]) -> String {
    format!("{}\n", hex::encode(machine.persona().secret("machine-id").get(..16).unwrap_or_default()))
}

fn sshd_config(machine: &Machine, _: &[User]) -> String {
    crate::decoys::ssh::build::sshd_config(machine.persona().os)
}

/// The RSA host key's file; its public half has `.pub` after it.
const RSA_KEY: &str = "/etc/ssh/ssh_host_rsa_key";

/// A host key's file; of an RSA key that is not made yet it is empty: who reads it waits before (`settle`).
fn host_key(machine: &Machine, at: usize, public: bool) -> String {
    let known = HostKeys::known(machine.persona());
    match known.or_else(|| (at != 0).then(|| HostKeys::quick(machine.persona()))) {
        Some(keys) => key_text(machine, &keys, at, public),
        None => String::new(),
    }
}

fn key_text(machine: &Machine, keys: &HostKeys, at: usize, public: bool) -> String {
    keys.text(at, public, &format!("root@{}", machine.persona().hostname))
}

/// The size of a file whose text takes long to make: of the RSA key's, which has the size of what stands for it. One key
/// in some hundreds is shorter than that, by a few bytes.
pub fn known_size(machine: &Machine, path: &str) -> Option<u64> {
    let public = match path.strip_prefix(RSA_KEY)? {
        "" => false,
        ".pub" => true,
        _ => return None,
    };
    let keys = HostKeys::known(machine.persona()).unwrap_or_else(|| HostKeys::quick(machine.persona()));
    u64::try_from(key_text(machine, &keys, 0, public).len()).ok()
}

/// Waits until what is at this path, or below it, can be read: the RSA host key may have to be made for that.
pub async fn settle(machine: &Machine, path: &str) {
    let leads_to_it = path == RSA_KEY
        || path.strip_prefix(RSA_KEY) == Some(".pub")
        || path != "/" && RSA_KEY.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    let has_it = !matches!(machine.facts().family, Family::Windows | Family::Bsd);
    if leads_to_it && has_it && HostKeys::known(machine.persona()).is_none() {
        // When they cannot be made, the file is empty.
        let _ = HostKeys::of(machine.persona()).await;
    }
}

fn cpuinfo(machine: &Machine, _: &[User]) -> String {
    let (name, model, stepping, mhz) = machine.processor();
    let count = machine.processors();
    (0..count)
        .map(|n| {
            if machine.facts().family == Family::BusyBox {
                return format!("processor\t: {n}\nmodel name\t: {name}\nBogoMIPS\t: 38.40\nFeatures\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae\nCPU implementer\t: 0x41\nCPU architecture: 7\nCPU variant\t: 0x0\nCPU part\t: 0xc07\nCPU revision\t: 5\n\n");
            }
            format!("processor\t: {n}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: {model}\nmodel name\t: {name}\nstepping\t: {stepping}\nmicrocode\t: 0xb000040\ncpu MHz\t\t: {mhz}\ncache size\t: 35840 KB\nphysical id\t: {n}\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: {n}\ninitial apicid\t: {n}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\nflags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss syscall nx pdpe1gb rdtscp lm constant_tsc arch_perfmon nopl xtopology tsc_reliable nonstop_tsc cpuid tsc_known_freq pni pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand hypervisor lahf_lm abm 3dnowprefetch\nbogomips\t: {:.2}\nclflush size\t: 64\ncache_alignment\t: 64\naddress sizes\t: 43 bits physical, 48 bits virtual\npower management:\n\n", mhz.parse::<f64>().unwrap_or(2400.0) * 2.0)
        })
        .collect()
}

/// Memory in KiB: all, free, buffers and cache, available; it moves a little with the time.
pub fn memory(machine: &Machine) -> (u64, u64, u64, u64) {
    let total = machine.memory();
    let minute = u64::try_from(machine.uptime() / 60).unwrap_or(0);
    let moving = machine.persona().number(&format!("memory {minute}"), total / 200 + 1);
    let cache = total * (20 + machine.persona().number("memory cache", 30)) / 100;
    let used = total * (12 + machine.persona().number("memory used", 25)) / 100 + moving;
    let free = total.saturating_sub(cache + used);
    (total, free, cache, free + cache * 9 / 10)
}

fn meminfo(machine: &Machine, _: &[User]) -> String {
    let (total, free, cache, available) = memory(machine);
    let swap = if machine.facts().family == Family::BusyBox { 0 } else { 998_396 };
    format!(
        "MemTotal:       {total:>8} kB\nMemFree:        {free:>8} kB\nMemAvailable:   {available:>8} kB\nBuffers:        {:>8} kB\nCached:         {:>8} kB\nSwapCached:            0 kB\nSwapTotal:      {swap:>8} kB\nSwapFree:       {swap:>8} kB\nDirty:                48 kB\nShmem:              1124 kB\n",
        cache / 9,
        cache - cache / 9,
    )
}

/// The three load averages.
pub fn load(machine: &Machine) -> [f64; 3] {
    let minute = machine.uptime() / 60;
    [1, 5, 15].map(|window: i64| {
        let at = minute / window;
        machine.persona().number(&format!("load {window} {at}"), 22) as f64 / 100.0
    })
}

fn loadavg(machine: &Machine, _: &[User]) -> String {
    let [one, five, fifteen] = load(machine);
    format!("{one:.2} {five:.2} {fifteen:.2} 1/{} {}\n", processes::all(machine).len() + 40, newest_pid(machine))
}

/// The id that the newest process has: it grows with the time.
pub fn newest_pid(machine: &Machine) -> u64 {
    let all = machine.persona().number("pids", 9000) + 2000 + u64::try_from(machine.uptime() / 7).unwrap_or(0);
    match machine.facts().family {
        Family::BusyBox => 400 + all % 31_000,
        _ => 1200 + all % 400_000,
    }
}

fn uptime(machine: &Machine, _: &[User]) -> String {
    let up = machine.uptime();
    format!(
        "{up}.{:02} {}.{:02}\n",
        Utc::now().timestamp_subsec_millis() / 10,
        up * i64::try_from(machine.processors()).unwrap_or(1) * 97 / 100,
        up % 100
    )
}

fn version(machine: &Machine, _: &[User]) -> String {
    let facts = machine.facts();
    format!("Linux version {} {} {}\n", facts.kernel, facts.compiler, facts.kernel_version)
}

/// What is mounted: device, place, kind, options.
pub fn mounts(machine: &Machine) -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    match machine.facts().family {
        Family::Bsd => {
            vec![("/dev/vtbd0p2", "/", "ufs", "local, journaled soft-updates"), ("devfs", "/dev", "devfs", "")]
        }
        Family::BusyBox => vec![
            ("/dev/root", "/", "ext4", "rw,relatime"),
            ("devtmpfs", "/dev", "devtmpfs", "rw,relatime,size=124312k,nr_inodes=31078,mode=755"),
            ("proc", "/proc", "proc", "rw,relatime"),
            ("devpts", "/dev/pts", "devpts", "rw,relatime,gid=5,mode=620,ptmxmode=666"),
            ("tmpfs", "/dev/shm", "tmpfs", "rw,relatime,mode=777"),
            ("tmpfs", "/tmp", "tmpfs", "rw,relatime"),
            ("sysfs", "/sys", "sysfs", "rw,relatime"),
        ],
        _ => vec![
            ("sysfs", "/sys", "sysfs", "rw,nosuid,nodev,noexec,relatime"),
            ("proc", "/proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
            ("udev", "/dev", "devtmpfs", "rw,nosuid,relatime,size=983268k,nr_inodes=245817,mode=755,inode64"),
            ("devpts", "/dev/pts", "devpts", "rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=000"),
            ("tmpfs", "/run", "tmpfs", "rw,nosuid,nodev,noexec,relatime,size=201440k,mode=755,inode64"),
            ("/dev/sda1", "/", "ext4", "rw,relatime,errors=remount-ro"),
            ("tmpfs", "/dev/shm", "tmpfs", "rw,nosuid,nodev,inode64"),
            ("tmpfs", "/run/lock", "tmpfs", "rw,nosuid,nodev,noexec,relatime,size=5120k,inode64"),
            ("cgroup2", "/sys/fs/cgroup", "cgroup2", "rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot"),
        ],
    }
}

fn mounts_text(machine: &Machine, _: &[User]) -> String {
    mounts(machine)
        .into_iter()
        .map(|(device, at, kind, options)| format!("{device} {at} {kind} {options} 0 0\n"))
        .collect()
}

fn cgroup(_: &Machine, _: &[User]) -> String {
    "0::/init.scope\n".to_owned()
}

fn environ(_: &Machine, _: &[User]) -> String {
    "HOME=/\0TERM=linux\0".to_owned()
}

/// Files of `/proc/1` that `/proc/self` shows.
pub fn self_files() -> &'static [(&'static str, Maker)] {
    &[("mounts", mounts_text), ("cgroup", cgroup), ("environ", environ)]
}

fn auth_log(machine: &Machine, users: &[User]) -> String {
    let host = &machine.persona().hostname;
    let user = users.iter().find(|user| user.uid >= 1000).map(|user| user.name.as_str()).unwrap_or("root");
    let mut at = machine.persona().booted_at;
    let mut text = String::new();
    for n in 0..40_u64 {
        at +=
            chrono::Duration::seconds(i64::try_from(machine.persona().number(&format!("log {n}"), 5000)).unwrap_or(0));
        if at > Utc::now() {
            break;
        }
        let pid = 700 + n * 37 + machine.persona().number(&format!("log pid {n}"), 30);
        let stamp = at.format("%b %e %H:%M:%S");
        text.push_str(&match n % 3 {
            0 => format!(
                "{stamp} {host} CRON[{pid}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)\n"
            ),
            1 => format!("{stamp} {host} CRON[{pid}]: pam_unix(cron:session): session closed for user root\n"),
            _ => format!(
                "{stamp} {host} systemd-logind[{}]: New session {} of user {user}.\n",
                machine.pid("logind", 400, 900),
                n + 1
            ),
        });
    }
    text
}

type Listed = (&'static str, u32, char, Maker);

/// Files whose text is made, by the kind of system: path, mode, age.
pub fn files(family: Family) -> &'static [Listed] {
    const DEBIAN: &[Listed] = &[
        ("/etc/passwd", 0o644, 'i', passwd),
        ("/etc/shadow", 0o640, 'i', shadow),
        ("/etc/group", 0o644, 'i', group),
        ("/etc/hostname", 0o644, 'i', hostname),
        ("/etc/hosts", 0o644, 'i', hosts),
        ("/etc/resolv.conf", 0o644, 'u', resolv),
        ("/etc/fstab", 0o644, 'i', fstab),
        ("/etc/crontab", 0o644, 'p', crontab),
        ("/etc/machine-id", 0o444, 'i', machine_id),
        ("/etc/ssh/sshd_config", 0o644, 'i', sshd_config),
        ("/etc/ssh/ssh_host_ecdsa_key", 0o600, 'i', |m, _| host_key(m, 1, false)),
        ("/etc/ssh/ssh_host_ecdsa_key.pub", 0o644, 'i', |m, _| host_key(m, 1, true)),
        ("/etc/ssh/ssh_host_ed25519_key", 0o600, 'i', |m, _| host_key(m, 2, false)),
        ("/etc/ssh/ssh_host_ed25519_key.pub", 0o644, 'i', |m, _| host_key(m, 2, true)),
        ("/etc/ssh/ssh_host_rsa_key", 0o600, 'i', |m, _| host_key(m, 0, false)),
        ("/etc/ssh/ssh_host_rsa_key.pub", 0o644, 'i', |m, _| host_key(m, 0, true)),
        ("/proc/cpuinfo", 0o444, 'b', cpuinfo),
        ("/proc/meminfo", 0o444, 'b', meminfo),
        ("/proc/uptime", 0o444, 'b', uptime),
        ("/proc/loadavg", 0o444, 'b', loadavg),
        ("/proc/version", 0o444, 'b', version),
        ("/proc/sys/kernel/hostname", 0o644, 'b', hostname),
        ("/var/log/auth.log", 0o640, 'u', auth_log),
    ];
    const BSD: &[Listed] = &[
        ("/etc/passwd", 0o644, 'i', passwd),
        ("/etc/group", 0o644, 'i', group),
        ("/etc/hosts", 0o644, 'i', hosts),
        ("/etc/resolv.conf", 0o644, 'u', resolv),
        ("/etc/fstab", 0o644, 'i', fstab),
        ("/etc/rc.conf", 0o644, 'i', |m, _| {
            format!(
                "hostname=\"{}\"\nifconfig_vtnet0=\"DHCP\"\nsshd_enable=\"YES\"\n# Set dumpdev to \"AUTO\" to enable crash dumps, \"NO\" to disable\ndumpdev=\"AUTO\"\n",
                m.persona().hostname
            )
        }),
        ("/etc/ssh/sshd_config", 0o644, 'i', sshd_config),
    ];
    match family {
        Family::Bsd => BSD,
        Family::Windows => &[],
        Family::Debian => DEBIAN,
        Family::RedHat | Family::BusyBox => DEBIAN.split_last().map_or(&[], |(_, rest)| rest),
    }
}

/// What says which system it is.
pub fn release_files(facts: &Facts) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    let mut release = format!(
        "PRETTY_NAME=\"{}\"\nNAME=\"{}\"\nVERSION_ID=\"{}\"\nVERSION=\"{}\"\n",
        facts.pretty, facts.name, facts.version_id, facts.version
    );
    if !facts.codename.is_empty() {
        release.push_str(&format!("VERSION_CODENAME={}\n", facts.codename));
    }
    release.push_str(&format!("ID={}\n", facts.id));
    if !facts.like.is_empty() {
        release.push_str(&format!("ID_LIKE=\"{}\"\n", facts.like));
    }
    files.push(("/etc/os-release", release));
    match facts.family {
        Family::Debian => {
            let version = match facts.version_id {
                "12" => "12.5\n",
                "11" => "11.9\n",
                "22.04" => "bookworm/sid\n",
                _ => "bullseye/sid\n",
            };
            files.push(("/etc/debian_version", version.to_owned()));
            files.push(("/etc/issue", format!("{} \\n \\l\n\n", facts.issue)));
            files.push(("/etc/issue.net", format!("{}\n", facts.issue)));
            if facts.id == "ubuntu" {
                files.push((
                    "/etc/lsb-release",
                    format!(
                        "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE={}\nDISTRIB_CODENAME={}\nDISTRIB_DESCRIPTION=\"{}\"\n",
                        facts.version_id, facts.codename, facts.pretty
                    ),
                ));
            }
        }
        Family::RedHat => {
            let release = if facts.id == "centos" {
                "CentOS Linux release 7.9.2009 (Core)\n"
            } else {
                "Rocky Linux release 9.4 (Blue Onyx)\n"
            };
            files.push(("/etc/redhat-release", release.to_owned()));
            files.push(("/etc/system-release", release.to_owned()));
            files.push(("/etc/issue", "\\S\nKernel \\r on an \\m\n\n".to_owned()));
        }
        Family::BusyBox => files.push(("/etc/issue", format!("{}\n", facts.issue))),
        _ => {}
    }
    files
}

/// What a user has at home: name, mode, text.
pub fn home(machine: &Machine, user: &User) -> Vec<(&'static str, u32, String)> {
    let mut files = Vec::new();
    match machine.facts().family {
        Family::Debian => {
            files.push((".bashrc", 0o644, "# ~/.bashrc: executed by bash(1) for non-login shells.\n\n# If not running interactively, don't do anything\n[ -z \"$PS1\" ] && return\n\nHISTCONTROL=ignoreboth\nHISTSIZE=1000\nHISTFILESIZE=2000\nalias ll='ls -l'\n".to_owned()));
            files.push((".profile", 0o644, "# ~/.profile: executed by Bourne-compatible login shells.\n\nif [ \"$BASH\" ]; then\n  if [ -f ~/.bashrc ]; then\n    . ~/.bashrc\n  fi\nfi\n\nmesg n 2> /dev/null || true\n".to_owned()));
        }
        Family::RedHat => {
            files.push((
                ".bashrc",
                0o644,
                "# .bashrc\n\n# Source global definitions\nif [ -f /etc/bashrc ]; then\n\t. /etc/bashrc\nfi\n"
                    .to_owned(),
            ));
            files.push((
                ".bash_profile",
                0o644,
                "# .bash_profile\n\nif [ -f ~/.bashrc ]; then\n\t. ~/.bashrc\nfi\n".to_owned(),
            ));
        }
        _ => files.push((".profile", 0o644, "export PATH=/bin:/sbin:/usr/bin:/usr/sbin\n".to_owned())),
    }
    if matches!(machine.facts().family, Family::Debian | Family::RedHat) {
        const USUAL: [&str; 14] = [
            "df -h",
            "free -m",
            "tail -f /var/log/syslog",
            "systemctl status ssh",
            "apt update",
            "ls -la /opt",
            "vi /etc/hosts",
            "crontab -l",
            "ss -tlnp",
            "journalctl -xe",
            "uptime",
            "last | head",
            "du -sh /var/log",
            "cat /etc/fstab",
        ];
        let history: String = (0..6 + machine.persona().number(&format!("history {}", user.name), 12))
            .filter_map(|n| machine.persona().pick(&format!("history {} {n}", user.name), &USUAL))
            .map(|line| format!("{line}\n"))
            .collect();
        files.push((".bash_history", 0o600, history));
    }
    files
}

/// Files that the machine has for what it is for.
pub fn purpose(machine: &Machine) -> Vec<(String, u32, String)> {
    let host = &machine.persona().hostname;
    let archetype = machine.persona().archetype.as_str();
    let mut files = Vec::new();
    let daemons = daemons::of(machine);
    let runs = |program: &str| daemons.iter().any(|daemon| daemon.program == program);
    if runs("nginx") || runs("apache2") || runs("httpd") {
        files.push((
            "/var/www/html/index.html".to_owned(),
            0o644,
            format!(
                "<!DOCTYPE html>\n<html>\n<head><title>{host}</title></head>\n<body><h1>{host}</h1></body>\n</html>\n"
            ),
        ));
    }
    if runs("nginx") {
        files.push(("/etc/nginx/nginx.conf".to_owned(), 0o644, "user www-data;\nworker_processes auto;\npid /run/nginx.pid;\n\nevents {\n\tworker_connections 768;\n}\n\nhttp {\n\tinclude /etc/nginx/mime.types;\n\tinclude /etc/nginx/sites-enabled/*;\n}\n".to_owned()));
    }
    if runs("master") {
        files.push(("/etc/postfix/main.cf".to_owned(), 0o644, format!("myhostname = {host}\nmyorigin = /etc/mailname\nmydestination = $myhostname, localhost\nrelayhost =\nmynetworks = 127.0.0.0/8\ninet_interfaces = all\n")));
    }
    if archetype.contains("data") || archetype.contains("db") || archetype.contains("file") {
        let name =
            machine.persona().pick("backup", &["daily", "customers", "erp", "inventory"]).copied().unwrap_or("daily");
        files.push(("/opt/backup/backup.sh".to_owned(), 0o750, format!("#!/bin/sh\n# Nightly dump\nDATE=$(date +%F)\nmysqldump --all-databases | gzip > /var/backups/{name}-$DATE.sql.gz\nfind /var/backups -name '{name}-*' -mtime +14 -delete\n")));
    }
    files
}

/// A part of a program: a header of the right machine, then noise.
pub fn program(facts: &Facts, seed: u64, offset: u64, length: usize) -> Vec<u8> {
    let header = header(facts);
    let mut bytes = Vec::with_capacity(length);
    let end = offset.saturating_add(u64::try_from(length).unwrap_or(0));
    let mut at = offset / 8 * 8;
    while at < end {
        let mut word = seed.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        for (n, byte) in (word ^ (word >> 31)).to_le_bytes().into_iter().enumerate() {
            let place = at + n as u64;
            if place >= offset && place < end {
                let known = usize::try_from(place).ok().and_then(|place| header.get(place));
                bytes.push(*known.unwrap_or(&byte));
            }
        }
        at += 8;
    }
    bytes
}

fn header(facts: &Facts) -> Vec<u8> {
    let mut header = Vec::with_capacity(64);
    match facts.family {
        Family::Windows => {
            header.extend_from_slice(b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0\xb8\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0");
        }
        Family::BusyBox => {
            // 32 bits, little endian, ARM.
            header.extend_from_slice(
                b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x28\0\x01\0\0\0\x9c\x0b\x01\0\x34\0\0\0",
            );
        }
        _ => {
            let abi = if facts.family == Family::Bsd { 9 } else { 0 };
            header.extend_from_slice(b"\x7fELF\x02\x01\x01");
            header.push(abi);
            header.extend_from_slice(b"\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0\x50\x6b\0\0\0\0\0\0\x40\0\0\0\0\0\0\0");
        }
    }
    header
}

/// `C:\Windows\win.ini`.
pub const WIN_INI: &str =
    "; for 16-bit app support\r\n[fonts]\r\n[extensions]\r\n[mci extensions]\r\n[files]\r\n[Mail]\r\nMAPI=1\r\n";
/// The hosts file of Windows.
pub const WINDOWS_HOSTS: &str = "# localhost name resolution is handled within DNS itself.\r\n#\t127.0.0.1       localhost\r\n#\t::1             localhost\r\n";
