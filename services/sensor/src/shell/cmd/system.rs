//! Commands that tell of the machine.

use chrono::Utc;

use super::{
    super::{
        Family, content,
        run::{Io, Shell},
        vfs::name,
    },
    Args,
};

pub(super) fn uname(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let facts = shell.machine().facts();
    let host = shell.machine().persona().hostname.clone();
    if let Some(long) =
        args.long.first().filter(|long| !["all", "kernel-release", "machine", "kernel-name"].contains(long))
    {
        shell.complain(
            io,
            &format!("uname: unrecognized option '--{long}'\nTry 'uname --help' for more information.\n"),
        );
        return 1;
    }
    let all = args.has('a') || args.long("all");
    let mut words: Vec<&str> = Vec::new();
    let version = facts.kernel_version;
    for (letter, word) in [
        ('s', facts.kernel_name),
        ('n', host.as_str()),
        ('r', facts.kernel),
        ('v', version),
        ('m', facts.machine),
        ('p', if all { "" } else { "unknown" }),
        ('o', facts.operating_system),
    ] {
        if all && letter == 'o' && facts.family == Family::Bsd {
            continue;
        }
        if (all || args.has(letter)) && !word.is_empty() {
            words.push(word);
        }
        // Some builds tell the processor and the platform too.
        if all && letter == 'm' && facts.family == Family::RedHat {
            words.extend([facts.machine, facts.machine]);
        }
        if all && letter == 'm' && facts.id == "ubuntu" {
            words.extend([facts.machine, facts.machine]);
        }
    }
    if words.is_empty() {
        words.push(facts.kernel_name);
    }
    if facts.family == Family::Bsd && all {
        words.retain(|word| *word != facts.machine);
        words.push(facts.machine);
    }
    shell.say(io, &format!("{}\n", words.join(" ")));
    0
}

pub(super) fn hostname(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let persona = machine.persona();
    let (host, facts) = (&persona.hostname, machine.facts());
    let text = if argv.first().is_some_and(|word| word.ends_with("hostnamectl")) {
        let id = hex::encode(persona.secret("machine-id").get(..16).unwrap_or_default());
        let boot = hex::encode(
            persona.secret(&format!("boot {}", persona.booted_at.timestamp())).get(..16).unwrap_or_default(),
        );
        format!(
            " Static hostname: {host}\n       Icon name: computer-vm\n         Chassis: vm\n      Machine ID: {id}\n         Boot ID: {boot}\n  Virtualization: kvm\nOperating System: {}\n          Kernel: Linux {}\n    Architecture: x86-64\n",
            facts.pretty, facts.kernel
        )
    } else {
        match argv.get(1).map(String::as_str) {
            None | Some("-f" | "--fqdn") => format!("{host}\n"),
            Some("-s") => format!("{}\n", host.split('.').next().unwrap_or(host)),
            Some("-I" | "-i") => format!("{} \n", persona.ip),
            Some("-d") => format!("{}\n", host.split_once('.').map_or("", |(_, domain)| domain)),
            Some(_) if shell.user.uid != 0 => {
                shell.complain(io, "hostname: you must be root to change the host name\n");
                return 1;
            }
            Some(_) => String::new(),
        }
    };
    shell.say(io, &text);
    0
}

/// `up 3 days,  4:05`.
pub(super) fn up(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        days => format!("{days} days, "),
    };
    if hours == 0 { format!("{days}{minutes} min") } else { format!("{days}{hours:>2}:{minutes:02}") }
}

/// The line of `uptime` and of `w`.
pub(super) fn uptime_line(shell: &Shell) -> String {
    let [one, five, fifteen] = content::load(shell.machine());
    let users = if shell.terminal.tty { "1 user" } else { "0 users" };
    format!(
        " {} up {},  {users},  load average: {one:.2}, {five:.2}, {fifteen:.2}\n",
        Utc::now().format("%H:%M:%S"),
        up(shell.machine().uptime())
    )
}

pub(super) fn uptime(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let text = match argv.get(1).map(String::as_str) {
        Some("-s") => format!("{}\n", shell.machine().persona().booted_at.format("%Y-%m-%d %H:%M:%S")),
        Some("-p") => {
            let seconds = shell.machine().uptime();
            format!("up {} days, {} hours, {} minutes\n", seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60)
        }
        _ => uptime_line(shell),
    };
    shell.say(io, &text);
    0
}

pub(super) fn free(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "sc");
    let (total, free, cache, available) = content::memory(shell.machine());
    let used = total.saturating_sub(free + cache);
    let swap = if shell.machine().facts().family == Family::BusyBox { 0 } else { 998_396 };
    let show = |value: u64| {
        if args.has('m') {
            (value / 1024).to_string()
        } else if args.has('g') {
            (value / 1_048_576).to_string()
        } else if args.has('h') {
            if value > 1_048_576 {
                format!("{:.1}Gi", value as f64 / 1_048_576.0)
            } else {
                format!("{}Mi", value / 1024)
            }
        } else {
            value.to_string()
        }
    };
    let text = format!(
        "               total        used        free      shared  buff/cache   available\nMem:    {:>12}{:>12}{:>12}{:>12}{:>12}{:>12}\nSwap:   {:>12}{:>12}{:>12}\n",
        show(total),
        show(used),
        show(free),
        show(1124),
        show(cache),
        show(available),
        show(swap),
        show(0),
        show(swap)
    );
    shell.say(io, &text);
    0
}

pub(super) fn df(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "t");
    let machine = shell.machine().clone();
    let (size, used, memory) = (machine.disk(), machine.disk_used(), machine.memory());
    let rows: Vec<(&str, u64, u64, &str)> = match machine.facts().family {
        Family::BusyBox => vec![
            ("/dev/root", size / 100, used / 100, "/"),
            ("devtmpfs", memory / 2, 0, "/dev"),
            ("tmpfs", memory / 2, 8, "/tmp"),
        ],
        Family::Bsd => vec![("/dev/vtbd0p2", size, used, "/"), ("devfs", 1, 1, "/dev")],
        _ => vec![
            ("udev", memory / 2 - 20_000, 0, "/dev"),
            ("tmpfs", memory / 10, 620 + machine.persona().number("run", 400), "/run"),
            ("/dev/sda1", size, used, "/"),
            ("tmpfs", memory / 2, 0, "/dev/shm"),
            ("tmpfs", 5120, 0, "/run/lock"),
            ("tmpfs", memory / 10, 0, "/run/user/0"),
        ],
    };
    let human = |kib: u64| {
        let value = kib as f64;
        if kib == 0 {
            "0".to_owned()
        } else if value >= 1_048_576.0 {
            let value = value / 1_048_576.0;
            if value < 10.0 { format!("{value:.1}G") } else { format!("{value:.0}G") }
        } else if value >= 1024.0 {
            format!("{:.0}M", value / 1024.0)
        } else {
            format!("{kib}K")
        }
    };
    let mut text = if args.has('h') {
        "Filesystem      Size  Used Avail Use% Mounted on\n".to_owned()
    } else {
        "Filesystem     1K-blocks    Used Available Use% Mounted on\n".to_owned()
    };
    for (device, size, used, place) in rows {
        let free = size.saturating_sub(used) * 95 / 100;
        let percent = (used * 100).div_ceil((used + free).max(1));
        text.push_str(&if args.has('h') {
            format!("{device:<14} {:>5} {:>5} {:>5} {percent:>3}% {place}\n", human(size), human(used), human(free))
        } else {
            format!("{device:<14} {size:>9} {used:>7} {free:>9} {percent:>3}% {place}\n")
        });
    }
    shell.say(io, &text);
    0
}

pub(super) fn mount(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    if argv.len() == 1 {
        let bsd = shell.machine().facts().family == Family::Bsd;
        let text: String = content::mounts(shell.machine())
            .into_iter()
            .map(|(device, place, kind, options)| match bsd {
                true if options.is_empty() => format!("{device} on {place} ({kind})\n"),
                true => format!("{device} on {place} ({kind}, {options})\n"),
                false => format!("{device} on {place} type {kind} ({options})\n"),
            })
            .collect();
        shell.say(io, &text);
        return 0;
    }
    if shell.user.uid != 0 {
        let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
        shell.complain(
            io,
            &format!("{program}: {}: must be superuser to use {program}.\n", argv.last().cloned().unwrap_or_default()),
        );
        return 32;
    }
    0
}

pub(super) fn dmesg(shell: &mut Shell, _: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let facts = machine.facts();
    if shell.user.uid != 0 && facts.family == Family::Debian {
        shell.complain(io, "dmesg: read kernel buffer failed: Operation not permitted\n");
        return 1;
    }
    let (cpu, ..) = machine.processor();
    let lines = [
        format!("Linux version {} {} {}", facts.kernel, facts.compiler, facts.kernel_version),
        format!("Command line: BOOT_IMAGE=/boot/vmlinuz-{} root=/dev/sda1 ro quiet", facts.kernel),
        "x86/fpu: x87 FPU will use FXSAVE".to_owned(),
        "BIOS-provided physical RAM map:".to_owned(),
        "Hypervisor detected: KVM".to_owned(),
        format!("smpboot: CPU0: {cpu} (family: 0x6)"),
        format!("Memory: {}K/{}K available", machine.memory() * 98 / 100, machine.memory()),
        "SCSI subsystem initialized".to_owned(),
        "EXT4-fs (sda1): mounted filesystem with ordered data mode. Quota mode: none.".to_owned(),
        format!("{}: link is up", facts.interface),
    ];
    let mut at = 0.0;
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("[{at:12.6}] {line}\n"));
        at += machine.persona().number(&line, 900_000) as f64 / 1_000_000.0;
    }
    shell.say(io, &text);
    0
}

pub(super) fn lscpu(shell: &mut Shell, io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let (cpu, model, stepping, mhz) = machine.processor();
    let count = machine.processors();
    let text = format!(
        "Architecture:            x86_64\n  CPU op-mode(s):        32-bit, 64-bit\n  Address sizes:         43 bits physical, 48 bits virtual\n  Byte Order:            Little Endian\nCPU(s):                  {count}\n  On-line CPU(s) list:   0-{}\nVendor ID:               GenuineIntel\n  Model name:            {cpu}\n    CPU family:          6\n    Model:               {model}\n    Thread(s) per core:  1\n    Core(s) per socket:  1\n    Socket(s):           {count}\n    Stepping:            {stepping}\n    BogoMIPS:            {:.2}\nVirtualization features: \n  Hypervisor vendor:     KVM\n  Virtualization type:   full\n",
        count - 1,
        mhz.parse::<f64>().unwrap_or(2400.0) * 2.0
    );
    shell.say(io, &text);
    0
}

pub(super) fn nproc(shell: &mut Shell, io: &Io) -> i32 {
    let text = format!("{}\n", shell.machine().processors());
    shell.say(io, &text);
    0
}

pub(super) fn lsmod(shell: &mut Shell, io: &Io) -> i32 {
    let text = match shell.machine().facts().family {
        Family::BusyBox => "Module                  Size  Used by    Not tainted\n".to_owned(),
        Family::Bsd => "Id Refs Address                Size Name\n 1    7 0xffffffff80200000  1f3e2d0 kernel\n 2    1 0xffffffff82f18000     3218 intpm.ko\n".to_owned(),
        _ => "Module                  Size  Used by\nrfkill                 36864  1\nintel_rapl_msr         20480  0\nghash_clmulni_intel    16384  0\naesni_intel           393216  0\ncrypto_simd            16384  1 aesni_intel\nvirtio_balloon         28672  0\nbutton                 24576  0\next4                  983040  1\ncrc16                  16384  1 ext4\nmbcache                16384  1 ext4\njbd2                  167936  1 ext4\nvirtio_net             73728  0\nnet_failover           24576  1 virtio_net\nvirtio_scsi            28672  2\n".to_owned(),
    };
    shell.say(io, &text);
    0
}

pub(super) fn devices(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let gib = machine.disk() / 1_048_576;
    let text = match argv.first().map(|word| name(word)) {
        Some("lsblk") => format!("NAME   MAJ:MIN RM  SIZE RO TYPE MOUNTPOINTS\nsda      8:0    0   {gib}G  0 disk \n├─sda1   8:1    0   {}G  0 part /\n├─sda2   8:2    0    1K  0 part \n└─sda5   8:5    0  975M  0 part [SWAP]\n", gib - 1),
        Some("lspci") => "00:00.0 Host bridge: Intel Corporation 440FX - 82441FX PMC [Natoma] (rev 02)\n00:01.0 ISA bridge: Intel Corporation 82371SB PIIX3 ISA [Natoma/Triton II]\n00:02.0 VGA compatible controller: Device 1234:1111 (rev 02)\n00:05.0 SCSI storage controller: Red Hat, Inc. Virtio SCSI\n00:12.0 Ethernet controller: Red Hat, Inc. Virtio network device\n".to_owned(),
        Some("fdisk") if shell.user.uid == 0 => format!("Disk /dev/sda: {gib} GiB, {} bytes, {} sectors\nUnits: sectors of 1 * 512 = 512 bytes\nSector size (logical/physical): 512 bytes / 512 bytes\n", gib << 30, gib << 21),
        _ => String::new(),
    };
    shell.say(io, &text);
    0
}

pub(super) fn date(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "ds");
    let now = values
        .iter()
        .find(|(letter, _)| *letter == 'd')
        .and_then(|(_, text)| text.strip_prefix('@')?.parse().ok())
        .and_then(|seconds| chrono::DateTime::<Utc>::from_timestamp(seconds, 0))
        .unwrap_or_else(Utc::now);
    let format = args.rest.iter().find_map(|word| word.strip_prefix('+'));
    let text = match format {
        // Only letters that are known, so that no format can fail.
        Some(format) => {
            let mut out = String::new();
            let mut chars = format.chars();
            while let Some(c) = chars.next() {
                if c != '%' {
                    out.push(c);
                    continue;
                }
                match chars.next() {
                    Some(letter) if "YmdHMSjaAbByFTDsRzZIpeu".contains(letter) => {
                        out.push_str(&now.format(&format!("%{letter}")).to_string())
                    }
                    Some('N') => out.push_str(&format!("{:09}", now.timestamp_subsec_nanos())),
                    Some('%') => out.push('%'),
                    Some('n') => out.push('\n'),
                    Some(other) => {
                        out.push('%');
                        out.push(other);
                    }
                    None => out.push('%'),
                }
            }
            out.replace("+00:00", "UTC")
        }
        None if args.has('R') => now.format("%a, %d %b %Y %H:%M:%S +0000").to_string(),
        None if args.has('I') => now.format("%Y-%m-%d").to_string(),
        None if shell.machine().facts().id == "debian"
            && shell.variable_text("LANG").is_some_and(|lang| lang.contains("UTF")) =>
        {
            now.format("%a %b %e %I:%M:%S %p UTC %Y").to_string()
        }
        None => now.format("%a %b %e %H:%M:%S UTC %Y").to_string(),
    };
    shell.say(io, &format!("{text}\n"));
    0
}

pub(super) async fn env(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let rest: Vec<String> =
        argv.iter().skip(1).skip_while(|word| word.starts_with('-') || word.contains('=')).cloned().collect();
    if argv.first().is_some_and(|word| word.ends_with("printenv"))
        && let Some(name) = rest.first()
    {
        return match shell.variables.get(name).filter(|(_, exported)| *exported).map(|(value, _)| value.clone()) {
            Some(value) => {
                shell.say(io, &format!("{value}\n"));
                0
            }
            None => 1,
        };
    }
    if !rest.is_empty() {
        return shell.call(&rest, io).await;
    }
    let text: String = shell
        .variables
        .iter()
        .filter(|(_, (_, exported))| *exported)
        .map(|(name, (value, _))| format!("{name}={value}\n"))
        .collect();
    shell.say(io, &text);
    0
}

pub(super) fn sysctl(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let machine = shell.machine().clone();
    let facts = machine.facts();
    let bsd = facts.family == Family::Bsd;
    let known: Vec<(&str, String)> = vec![
        ("kernel.hostname", machine.persona().hostname.clone()),
        ("kernel.osrelease", facts.kernel.to_owned()),
        ("kernel.ostype", facts.kernel_name.to_owned()),
        ("kernel.version", facts.kernel_version.to_owned()),
        ("net.ipv4.ip_forward", "0".to_owned()),
        ("vm.swappiness", "60".to_owned()),
        ("kern.hostname", machine.persona().hostname.clone()),
        ("kern.osrelease", facts.kernel.to_owned()),
        ("hw.model", machine.processor().0.to_owned()),
        ("hw.ncpu", machine.processors().to_string()),
        ("hw.physmem", (machine.memory() * 1024).to_string()),
    ];
    let mut status = 0;
    for word in argv.iter().skip(1).filter(|word| !word.starts_with('-')) {
        if let Some((name, value)) = word.split_once('=') {
            shell.say(io, &format!("{name} = {value}\n"));
            continue;
        }
        match known.iter().find(|(name, _)| name == word) {
            Some((name, value)) if bsd => shell.say(io, &format!("{name}: {value}\n")),
            Some((name, value)) => shell.say(io, &format!("{name} = {value}\n")),
            None => {
                status = 255;
                shell.complain(
                    io,
                    &format!("sysctl: cannot stat /proc/sys/{}: No such file or directory\n", word.replace('.', "/")),
                );
            }
        }
    }
    status
}

pub(super) fn lsb_release(shell: &mut Shell, _: &[String], io: &Io) -> i32 {
    let facts = shell.machine().facts();
    let id = if facts.id == "ubuntu" { "Ubuntu" } else { "Debian" };
    shell.say(
        io,
        &format!(
            "Distributor ID:\t{id}\nDescription:\t{}\nRelease:\t{}\nCodename:\t{}\n",
            facts.pretty, facts.version_id, facts.codename
        ),
    );
    0
}
