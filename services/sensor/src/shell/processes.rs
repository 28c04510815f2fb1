//! What seems to run on a machine.

use super::{Family, Machine, daemons};

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u64,
    /// Of its parent.
    pub parent: u64,
    /// Whose.
    pub uid: u32,
    /// Name of the owner.
    pub user: &'static str,
    /// Its command line.
    pub command: String,
    /// Of the kernel.
    pub kernel: bool,
    /// Virtual size in KiB.
    pub virtual_size: u64,
    /// Resident size in KiB.
    pub resident: u64,
}

impl Process {
    /// Short name.
    pub fn name(&self) -> &str {
        let first = self.command.split_whitespace().next().unwrap_or("").trim_end_matches(':');
        let name = first.rsplit('/').next().unwrap_or(first);
        name.trim_matches(['[', ']'])
    }
}

/// `/proc/PID/status`, the beginning.
pub fn status(process: &Process) -> String {
    let (uid, pid, parent) = (process.uid, process.pid, process.parent);
    format!(
        "Name:\t{}\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t{parent}\nTracerPid:\t0\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nFDSize:\t128\nVmSize:\t{} kB\nVmRSS:\t{} kB\nThreads:\t1\n",
        process.name(),
        process.virtual_size,
        process.resident,
    )
}

/// All that seem to run, by their ids.
pub fn all(machine: &Machine) -> Vec<Process> {
    let mut all = Vec::new();
    let mut add = |pid: u64, parent: u64, (uid, user): (u32, &'static str), command: String, kernel: bool| {
        let (virtual_size, resident) = if kernel {
            (0, 0)
        } else {
            let number = |what: &str, end| machine.persona().number(&format!("{what} {command}"), end);
            let resident = 1800 + number("rss", 11_000);
            (resident * 2 + number("vsz", 60_000), resident)
        };
        all.push(Process { pid, parent, uid, user, command, kernel, virtual_size, resident });
    };
    let root = (0, "root");
    let processors = machine.processors();
    let has_ssh = has_ssh(machine);
    match machine.facts().family {
        Family::BusyBox => {
            add(1, 0, root, "init".into(), false);
            for (n, name) in [
                "kthreadd",
                "rcu_gp",
                "kworker/0:0H-eve",
                "ksoftirqd/0",
                "rcu_preempt",
                "migration/0",
                "kswapd0",
                "mmcqd/0",
            ]
            .into_iter()
            .enumerate()
            {
                add(2 + n as u64, if n == 0 { 0 } else { 2 }, root, format!("[{name}]"), true);
            }
            let telnet = machine.persona().services.has("telnet");
            for (n, command) in [
                "/sbin/syslogd -n",
                "/sbin/klogd -n",
                "udhcpc -R -n -p /var/run/udhcpc.eth0.pid -i eth0",
                "/usr/sbin/sshd",
                "/usr/sbin/telnetd -F",
                "/sbin/getty -L ttyS0 115200 vt100",
            ]
            .into_iter()
            .enumerate()
            .filter(|(_, command)| (has_ssh || !command.contains("sshd")) && (telnet || !command.contains("telnetd")))
            {
                add(machine.pid(command, 90 + 40 * n as u64, 125 + 40 * n as u64), 1, root, command.into(), false);
            }
            daemons_from(machine, 340, &mut add);
        }
        Family::Bsd => {
            add(0, 0, root, "[kernel]".into(), true);
            add(1, 0, root, "/sbin/init".into(), false);
            for (n, name) in [
                "[crypto]",
                "[cam]",
                "[sequencer 00]",
                "[rand_harvestq]",
                "[pagedaemon]",
                "[vmdaemon]",
                "[bufdaemon]",
                "[syncer]",
            ]
            .into_iter()
            .enumerate()
            {
                add(2 + n as u64, 0, root, name.into(), true);
            }
            for (n, command) in [
                "/sbin/devd",
                "/usr/sbin/syslogd -s",
                "/usr/sbin/sshd",
                "/usr/sbin/cron -s",
                "/usr/libexec/getty Pc ttyv0",
                "/usr/libexec/getty Pc ttyv1",
            ]
            .into_iter()
            .enumerate()
            .filter(|(_, command)| has_ssh || !command.contains("sshd"))
            {
                add(machine.pid(command, 400 + 60 * n as u64, 455 + 60 * n as u64), 1, root, command.into(), false);
            }
            daemons_from(machine, 800, &mut add);
        }
        _ => linux(machine, processors, &mut add),
    }
    all.sort_by_key(|process| process.pid);
    all.dedup_by_key(|process| process.pid);
    all
}

/// Whether its SSH server runs.
fn has_ssh(machine: &Machine) -> bool {
    daemons::of(machine).iter().any(|daemon| daemon.program == "sshd")
}

/// Of a device or of FreeBSD: what the services add after what the system has.
fn daemons_from(machine: &Machine, first: u64, add: &mut impl FnMut(u64, u64, (u32, &'static str), String, bool)) {
    let processes = daemons::of(machine).into_iter().flat_map(|daemon| daemon.processes);
    for (n, ((uid, user, _), command)) in (0_u64..).zip(processes) {
        add(machine.pid(&command, first + 30 * n, first + 30 * n + 25), 1, (uid, user), command, false);
    }
}

fn linux(machine: &Machine, processors: usize, add: &mut impl FnMut(u64, u64, (u32, &'static str), String, bool)) {
    let root = (0, "root");
    let family = machine.facts().family;
    let init = match family {
        Family::RedHat => "/usr/lib/systemd/systemd --switched-root --system --deserialize 31",
        _ => "/sbin/init",
    };
    add(1, 0, root, init.into(), false);
    add(2, 0, root, "[kthreadd]".into(), true);
    let mut pid = 3;
    for name in ["rcu_gp", "rcu_par_gp", "slub_flushwq", "netns", "kworker/0:0H-events_highpri", "mm_percpu_wq"] {
        add(pid, 2, root, format!("[{name}]"), true);
        pid += if pid % 3 == 0 { 1 } else { 2 };
    }
    for cpu in 0..processors {
        for name in ["cpuhp", "idle_inject", "migration", "ksoftirqd"] {
            add(pid, 2, root, format!("[{name}/{cpu}]"), true);
            pid += 1;
        }
    }
    for name in [
        "kdevtmpfs",
        "kauditd",
        "khungtaskd",
        "oom_reaper",
        "writeback",
        "kcompactd0",
        "ksmd",
        "khugepaged",
        "kintegrityd",
        "kblockd",
        "blkcg_punt_bio",
        "kswapd0",
        "kthrotld",
        "scsi_eh_0",
        "scsi_tmf_0",
        "jbd2/sda1-8",
        "ext4-rsv-conver",
    ] {
        add(pid, 2, root, format!("[{name}]"), true);
        pid += 1 + machine.persona().number(name, 4);
    }
    let mut at = pid + 60 + machine.persona().number("services from", 60);
    let mut next = |command: &str| {
        at += 1 + machine.persona().number(&format!("pid step {command}"), 24);
        at
    };
    let lib = if family == Family::RedHat { "/usr/lib" } else { "/lib" };
    for command in [format!("{lib}/systemd/systemd-journald"), format!("{lib}/systemd/systemd-udevd")] {
        add(next(&command), 1, root, command, false);
    }
    let has_ssh = has_ssh(machine);
    let services: &[((u32, &'static str), &str)] = match family {
        Family::RedHat => &[
            ((0, "root"), "/sbin/auditd"),
            ((81, "dbus"), "/usr/bin/dbus-broker-launch --scope system --audit"),
            ((0, "root"), "/usr/sbin/irqbalance --foreground"),
            ((0, "root"), "/usr/lib/systemd/systemd-logind"),
            ((0, "root"), "/usr/sbin/NetworkManager --no-daemon"),
            ((0, "root"), "/usr/sbin/rsyslogd -n"),
            ((0, "root"), "/usr/sbin/crond -n"),
            ((0, "root"), "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"),
            ((0, "root"), "/sbin/agetty -o -p -- \\u --noclear - linux"),
        ],
        _ => &[
            ((102, "systemd-timesync"), "/lib/systemd/systemd-timesyncd"),
            ((0, "root"), "/usr/sbin/cron -f"),
            (
                (100, "messagebus"),
                "/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only",
            ),
            ((0, "root"), "/usr/sbin/rsyslogd -n -iNONE"),
            ((0, "root"), "/lib/systemd/systemd-logind"),
            ((0, "root"), "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"),
            ((0, "root"), "/sbin/agetty -o -p -- \\u --noclear - linux"),
        ],
    };
    for (user, command) in services.iter().filter(|(_, command)| has_ssh || !command.contains("sshd")) {
        add(next(command), 1, *user, (*command).to_owned(), false);
    }
    for daemon in daemons::of(machine) {
        let mut parent = 1;
        for (n, ((uid, user, _), command)) in daemon.processes.into_iter().enumerate() {
            let pid = next(&format!("{} {n}", daemon.program));
            add(pid, parent, (uid, user), command, false);
            // What it was split into; the two of a container engine are systemd's.
            if n == 0 && daemon.program != "dockerd" {
                parent = pid;
            }
        }
    }
    for n in 0..3 {
        let name = format!("[kworker/{}:{n}-events]", n % processors.max(1));
        let pid = 20_000 + machine.persona().number(&format!("kworker {n}"), 9_000);
        add(pid, 2, root, name, true);
    }
}
