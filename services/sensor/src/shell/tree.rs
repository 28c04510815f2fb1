//! The files that a machine has before anybody changes them: a tree a system, shared by all machines with that system,
//! and over it what is the machine's own. Contents are made when they are read.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::{
    Facts, Family, Machine, User, accounts, content, processes,
    vfs::{Kind, Meta, Vfs},
};
use crate::persona::Os;

/// Makes the text of a file of this machine with these accounts.
pub type Maker = fn(&Machine, &[User]) -> String;

/// One file, folder or link.
#[derive(Clone)]
pub struct Entry {
    kind: Inside,
    mode: u32,
    uid: u32,
    gid: u32,
    age: Age,
}

#[derive(Clone)]
enum Inside {
    Folder,
    Link(Arc<str>),
    Device(u32, u32),
    Text(Arc<str>),
    Made(Maker),
    /// A program of this size.
    Program(u64),
    Random,
    Zeros,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    /// As the package has it.
    Package,
    /// Since the system was installed.
    Installed,
    /// Some time between that and now.
    Used,
    /// Since the machine was started; sizes are not told.
    Booted,
}

/// Entries by their path.
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// What is at this path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// All of it.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.0
    }

    fn add(&mut self, path: &str, mode: u32, uid: u32, age: Age, kind: Inside) {
        // The folders above it are there too.
        let mut above = super::vfs::parent(path);
        while above != "/" && !self.0.contains_key(above) {
            let folder = Entry { kind: Inside::Folder, mode: 0o755, uid: 0, gid: 0, age };
            self.0.insert(above.to_owned(), folder);
            above = super::vfs::parent(above);
        }
        self.0.insert(path.to_owned(), Entry { kind, mode, uid, gid: uid, age });
    }
}

/// What only one machine has: homes, its processes, what its purpose brings.
pub struct Own(Tree);

impl Own {
    pub(super) fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    pub(super) fn entries(&self) -> &BTreeMap<String, Entry> {
        self.0.entries()
    }
}

impl Entry {
    fn made(&self, machine: &Machine, users: &[User]) -> String {
        match &self.kind {
            Inside::Text(text) => text.to_string(),
            Inside::Made(maker) => maker(machine, users),
            _ => String::new(),
        }
    }

    /// What is known of it on this machine.
    pub fn meta(&self, machine: &Machine, users: &[User], path: &str) -> Meta {
        let seed = seed_of(path);
        let booted = machine.persona().booted_at.timestamp();
        let installed = machine.installed_at().timestamp();
        let spread = |from: i64, to: i64| {
            let span = u64::try_from((to - from).max(1)).unwrap_or(1);
            from + i64::try_from(machine.persona().number(path, span)).unwrap_or(0)
        };
        let mtime = match self.age {
            // The same on each machine with this system: the packages' own times.
            Age::Package => 1_690_000_000 - i64::try_from(seed % 40_000_000).unwrap_or(0),
            Age::Installed => installed + i64::try_from(seed % 900).unwrap_or(0),
            Age::Used => spread(installed, booted),
            Age::Booted => booted + i64::try_from(seed % 20).unwrap_or(0),
        };
        let size = match &self.kind {
            Inside::Folder if self.age == Age::Booted => 0,
            Inside::Folder => 4096,
            Inside::Link(target) => u64::try_from(target.len()).unwrap_or(0),
            Inside::Program(size) => *size,
            Inside::Device(..) | Inside::Random | Inside::Zeros => 0,
            Inside::Text(text) => u64::try_from(text.len()).unwrap_or(0),
            Inside::Made(_) if self.age == Age::Booted => 0,
            Inside::Made(maker) => content::known_size(machine, path).unwrap_or_else(|| {
                let mut all = machine.users().to_vec();
                all.extend_from_slice(users);
                u64::try_from(maker(machine, &all).len()).unwrap_or(0)
            }),
        };
        Meta {
            kind: match &self.kind {
                Inside::Folder => Kind::Folder,
                Inside::Link(target) => Kind::Link(target.to_string()),
                Inside::Device(major, minor) => Kind::Device(*major, *minor),
                Inside::Random => Kind::Device(1, if path.ends_with("urandom") { 9 } else { 8 }),
                Inside::Zeros => Kind::Device(1, 5),
                _ => Kind::File,
            },
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size,
            mtime,
        }
    }

    /// A part of what is in it.
    pub fn read(&self, files: &Vfs, path: &str, offset: u64, most: usize) -> Vec<u8> {
        let machine = files.machine();
        match &self.kind {
            Inside::Program(size) => {
                let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(most);
                content::program(machine.facts(), seed_of(path), offset, left)
            }
            Inside::Random => {
                let mut bytes = vec![0; most.min(1 << 20)];
                rand::fill(&mut bytes[..]);
                bytes
            }
            Inside::Zeros => vec![0; most.min(1 << 20)],
            Inside::Text(_) | Inside::Made(_) => {
                let text = self.made(machine, &files.users());
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                text.into_bytes().into_iter().skip(from).take(most).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A number of a text, the same on each machine.
pub fn seed_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The tree of a system.
pub fn base(os: Os) -> &'static Tree {
    static TREES: [OnceLock<Tree>; Os::ALL.len()] = [const { OnceLock::new() }; Os::ALL.len()];
    static NONE: Tree = Tree(BTreeMap::new());
    let at = Os::ALL.iter().position(|(_, known)| *known == os);
    at.and_then(|at| TREES.get(at)).map_or(&NONE, |tree| tree.get_or_init(|| build(os)))
}

const LINUX_FOLDERS: &str = "/boot /dev /dev/pts /dev/shm /etc /etc/cron.d /etc/cron.daily /etc/cron.hourly /etc/cron.weekly \
    /etc/default /etc/init.d /etc/profile.d /etc/security /etc/ssh /etc/ssl /etc/ssl/certs /etc/systemd /etc/systemd/system \
    /home /media /mnt /opt /proc /proc/net /proc/sys /proc/sys/kernel /run /run/lock /run/user /srv /sys /sys/class \
    /sys/class/net /usr /usr/bin /usr/games /usr/include /usr/lib /usr/lib64 /usr/libexec /usr/local /usr/local/bin \
    /usr/local/etc /usr/local/lib /usr/local/sbin /usr/local/share /usr/sbin /usr/share /usr/share/doc /usr/share/man \
    /usr/share/zoneinfo /usr/src /var /var/backups /var/cache /var/lib /var/local /var/log /var/mail /var/opt /var/spool \
    /var/spool/cron";

const LINUX_PROGRAMS: &str = "[ awk base64 basename bash bunzip2 bzip2 cat chattr chfn chgrp chmod chown chsh clear cmp comm cp \
    crontab curl cut date dd df diff dirname dmesg du echo env expr false file find free getent grep egrep fgrep groups gunzip \
    gzip head hostname hostnamectl id install ip journalctl kill killall last lastlog less ln ls lsattr lsblk lscpu lsmod lsof \
    lspci md5sum mkdir mknod mktemp more mount mv nano nc nice nohup nproc passwd perl pgrep ping pkill printenv printf ps pstree \
    pwd python3 readlink realpath rev rm rmdir scp sed seq sftp sha1sum sha256sum sha512sum sleep sort ss ssh ssh-keygen stat \
    su sudo stty sync systemctl tail tar tee test timeout top touch tr true tty umount uname uniq uptime users vi vim w watch wc \
    wget whereis which who whoami xargs yes zcat netstat tftp ftp telnet gcc make";

const LINUX_SYSTEM_PROGRAMS: &str = "adduser agetty arp blkid chpasswd chroot cron fdisk fsck groupadd groupdel halt ifconfig \
    ifdown ifup init insmod iptables iptables-save ldconfig logrotate mkfs mkswap modprobe nologin poweroff reboot rmmod route \
    runuser service shutdown sshd swapoff swapon sysctl useradd userdel usermod visudo";

const BUSYBOX_APPLETS: &str = "[ ash awk base64 basename cat chgrp chmod chown clear cmp cp crontab cut date dd df diff dirname \
    dmesg du echo egrep env expr false fgrep find free grep gunzip gzip head hostname id kill killall less ln ls lsmod md5sum \
    mkdir mknod mktemp more mount mv nc netstat nice nohup nproc passwd pgrep pidof ping pkill printenv printf ps pwd readlink realpath \
    rm rmdir sed seq sh sha1sum sha256sum sleep sort stat stty su sync tail tar tee telnet test tftp ftpget ftpput time timeout top touch tr \
    true tty umount uname uniq uptime vi watch wc wget which who whoami xargs yes zcat ifconfig route ip arp halt reboot poweroff \
    init insmod modprobe rmmod mkswap swapon swapoff sysctl syslogd klogd telnetd udhcpc getty login chroot";

fn build(os: Os) -> Tree {
    let facts = Facts::of(os);
    let mut tree = Tree(BTreeMap::new());
    tree.0.insert("/".to_owned(), Entry { kind: Inside::Folder, mode: 0o755, uid: 0, gid: 0, age: Age::Installed });
    if facts.family == Family::Windows {
        windows(&mut tree, os);
        return tree;
    }
    for folder in LINUX_FOLDERS.split_whitespace() {
        if facts.family == Family::Bsd && (folder.starts_with("/sys") || folder.starts_with("/etc/systemd")) {
            continue;
        }
        let age = if folder.starts_with("/proc") || folder.starts_with("/dev") || folder.starts_with("/sys") {
            Age::Booted
        } else {
            Age::Installed
        };
        tree.add(folder, 0o755, 0, age, Inside::Folder);
    }
    tree.add("/root", 0o700, 0, Age::Used, Inside::Folder);
    for shared in ["/tmp", "/var/tmp", "/dev/shm"] {
        tree.add(shared, 0o1777, 0, Age::Used, Inside::Folder);
    }
    programs(&mut tree, os, facts);
    devices(&mut tree, facts);
    for (path, mode, age, maker) in content::files(facts.family) {
        let age = match age {
            'p' => Age::Package,
            'i' => Age::Installed,
            'b' => Age::Booted,
            _ => Age::Used,
        };
        tree.add(path, *mode, 0, age, Inside::Made(*maker));
    }
    let release = content::release_files(facts);
    for (path, text) in release {
        tree.add(path, 0o644, 0, Age::Package, Inside::Text(text.into()));
    }
    if facts.family != Family::Bsd {
        tree.add("/proc/self", 0o777, 0, Age::Booted, Inside::Link("1".into()));
        tree.add("/proc/mounts", 0o777, 0, Age::Booted, Inside::Link("self/mounts".into()));
        tree.add("/etc/mtab", 0o777, 0, Age::Installed, Inside::Link("../proc/self/mounts".into()));
    }
    if matches!(facts.family, Family::Debian | Family::RedHat) {
        for suffix in ["vmlinuz", "initrd.img", "System.map", "config"] {
            let size = 200_000 + seed_of(suffix) % 40_000_000;
            tree.add(&format!("/boot/{suffix}-{}", facts.kernel), 0o644, 0, Age::Installed, Inside::Program(size));
        }
        tree.add(
            &format!("/lib/modules/{}/modules.dep", facts.kernel),
            0o644,
            0,
            Age::Package,
            Inside::Program(620_113),
        );
        tree.0.retain(|path, _| !path.starts_with("/lib/") && path != "/lib");
        for (link, target) in [("/lib", "usr/lib"), ("/lib64", "usr/lib64"), ("/bin", "usr/bin"), ("/sbin", "usr/sbin")]
        {
            tree.add(link, 0o777, 0, Age::Installed, Inside::Link(target.into()));
        }
        tree.add("/etc/localtime", 0o777, 0, Age::Installed, Inside::Link("/usr/share/zoneinfo/Etc/UTC".into()));
    }
    tree
}

fn programs(tree: &mut Tree, os: Os, facts: &Facts) {
    let size = |name: &str| 14_000 + seed_of(&format!("{name} {os:?}")) % 180_000 / 8 * 8;
    if facts.family == Family::BusyBox {
        for folder in ["/bin", "/sbin", "/lib"] {
            tree.add(folder, 0o755, 0, Age::Package, Inside::Folder);
        }
        tree.add("/bin/busybox", 0o4755, 0, Age::Package, Inside::Program(743_204));
        for name in BUSYBOX_APPLETS.split_whitespace() {
            let folder = match name {
                "ifconfig" | "route" | "ip" | "arp" | "halt" | "reboot" | "poweroff" | "init" | "insmod"
                | "modprobe" | "rmmod" | "mkswap" | "swapon" | "swapoff" | "sysctl" | "syslogd" | "klogd"
                | "udhcpc" | "getty" => "/sbin",
                "telnetd" | "chroot" => "/usr/sbin",
                "awk" | "base64" | "basename" | "clear" | "cmp" | "crontab" | "cut" | "diff" | "dirname" | "du"
                | "env" | "expr" | "find" | "free" | "head" | "id" | "killall" | "less" | "md5sum" | "nc" | "nohup"
                | "nproc" | "passwd" | "pgrep" | "pkill" | "printf" | "readlink" | "realpath" | "seq" | "sha1sum"
                | "sha256sum" | "sort" | "tail" | "tee" | "telnet" | "test" | "tftp" | "time" | "timeout" | "top"
                | "tr" | "tty" | "uniq" | "wc" | "wget" | "which" | "who" | "whoami" | "xargs" | "yes" | "["
                | "ftpget" | "ftpput" | "uptime" => "/usr/bin",
                _ => "/bin",
            };
            let target = if folder.starts_with("/usr") {
                "../../bin/busybox"
            } else if folder == "/bin" {
                "busybox"
            } else {
                "../bin/busybox"
            };
            tree.add(&format!("{folder}/{name}"), 0o777, 0, Age::Package, Inside::Link(target.into()));
        }
        tree.add("/usr/sbin/sshd", 0o755, 0, Age::Package, Inside::Program(612_884));
        tree.add("/linuxrc", 0o777, 0, Age::Package, Inside::Link("bin/busybox".into()));
        return;
    }
    let own = match facts.family {
        Family::Debian => "apt apt-cache apt-get dash dpkg dpkg-query lsb_release",
        Family::RedHat => "dnf rpm yum",
        _ => "freebsd-version fetch sockstat procstat",
    };
    let (bin, sbin) = ("/usr/bin", "/usr/sbin");
    for name in LINUX_PROGRAMS.split_whitespace().chain(own.split_whitespace()) {
        let missing = match facts.family {
            Family::Bsd => {
                "bash apt free ip hostnamectl journalctl lsattr chattr lsblk lscpu lsmod lspci ss systemctl python3 perl nano vim \
                 sudo wget curl gcc make nproc lsof pstree sha1sum sha256sum sha512sum md5sum"
            }
            _ if matches!(os, Os::Debian12 | Os::Rocky9) => "gcc make tftp ftp telnet vim",
            Family::Debian => "gcc make",
            _ => "tftp ftp",
        };
        if missing.split_whitespace().any(|gone| gone == name) {
            continue;
        }
        let mode = match name {
            "su" | "sudo" | "passwd" | "chfn" | "chsh" | "mount" | "umount" => 0o4755,
            "crontab" => 0o2755,
            _ => 0o755,
        };
        let bytes = match name {
            "bash" => 1_265_648,
            "perl" => 3_822_056,
            _ => size(name),
        };
        tree.add(&format!("{bin}/{name}"), mode, 0, Age::Package, Inside::Program(bytes));
    }
    for name in LINUX_SYSTEM_PROGRAMS.split_whitespace() {
        tree.add(&format!("{sbin}/{name}"), 0o755, 0, Age::Package, Inside::Program(size(name)));
    }
    let sh = match facts.family {
        Family::Debian => "dash",
        _ => "bash",
    };
    if facts.family == Family::Bsd {
        for name in [
            "sh", "csh", "tcsh", "ls", "cat", "cp", "mv", "rm", "ps", "kill", "echo", "date", "dd", "df", "pwd",
            "sleep",
        ] {
            tree.add(&format!("/bin/{name}"), 0o555, 0, Age::Package, Inside::Program(size(name)));
        }
        tree.add("/sbin", 0o755, 0, Age::Package, Inside::Folder);
        for name in [
            "ifconfig", "ping", "mount", "route", "reboot", "halt", "sysctl", "dmesg", "md5", "sha256", "pfctl",
            "kldstat",
        ] {
            tree.add(&format!("/sbin/{name}"), 0o555, 0, Age::Package, Inside::Program(size(name)));
        }
        tree.add("/usr/home", 0o777, 0, Age::Installed, Inside::Link("../home".into()));
    } else {
        tree.add(&format!("{bin}/sh"), 0o777, 0, Age::Package, Inside::Link(sh.into()));
    }
}

fn devices(tree: &mut Tree, facts: &Facts) {
    for (name, major, minor, mode) in [
        ("null", 1, 3, 0o666),
        ("full", 1, 7, 0o666),
        ("tty", 5, 0, 0o666),
        ("console", 5, 1, 0o600),
        ("tty1", 4, 1, 0o620),
    ] {
        tree.add(&format!("/dev/{name}"), mode, 0, Age::Booted, Inside::Device(major, minor));
    }
    tree.add("/dev/random", 0o666, 0, Age::Booted, Inside::Random);
    tree.add("/dev/urandom", 0o666, 0, Age::Booted, Inside::Random);
    tree.add("/dev/zero", 0o666, 0, Age::Booted, Inside::Zeros);
    let disks: &[(&str, u32)] = match facts.family {
        Family::Bsd => &[("vtbd0", 0), ("vtbd0p1", 1), ("vtbd0p2", 2)],
        Family::BusyBox => &[("mmcblk0", 0), ("mmcblk0p1", 1)],
        _ => &[("sda", 0), ("sda1", 1), ("sda2", 2), ("sda5", 5)],
    };
    for (name, minor) in disks {
        tree.add(&format!("/dev/{name}"), 0o660, 0, Age::Booted, Inside::Device(8, *minor));
    }
    for (name, target) in [
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("fd", "/proc/self/fd"),
    ] {
        tree.add(&format!("/dev/{name}"), 0o777, 0, Age::Booted, Inside::Link(target.into()));
    }
}

fn windows(tree: &mut Tree, os: Os) {
    for folder in [
        "/PerfLogs",
        "/Program Files",
        "/Program Files/Common Files",
        "/Program Files/Internet Explorer",
        "/Program Files/Windows Defender",
        "/Program Files/WindowsPowerShell",
        "/Program Files (x86)",
        "/Program Files (x86)/Common Files",
        "/Program Files (x86)/Internet Explorer",
        "/ProgramData",
        "/ProgramData/ssh",
        "/Users/Public",
        "/Users/Public/Documents",
        "/Windows/System32/config",
        "/Windows/System32/drivers/etc",
        "/Windows/System32/OpenSSH",
        "/Windows/Temp",
        "/Windows/SysWOW64",
    ] {
        tree.add(folder, 0o755, 500, Age::Installed, Inside::Folder);
    }
    if os == Os::WindowsServer2019 {
        tree.add("/inetpub/wwwroot", 0o755, 500, Age::Installed, Inside::Folder);
    }
    for name in [
        "cmd.exe",
        "whoami.exe",
        "ipconfig.exe",
        "net.exe",
        "net1.exe",
        "netstat.exe",
        "ping.exe",
        "systeminfo.exe",
        "tasklist.exe",
        "taskkill.exe",
        "sc.exe",
        "reg.exe",
        "schtasks.exe",
        "certutil.exe",
        "bitsadmin.exe",
        "hostname.exe",
        "where.exe",
        "findstr.exe",
        "more.com",
        "notepad.exe",
        "svchost.exe",
        "lsass.exe",
        "services.exe",
        "kernel32.dll",
        "ntdll.dll",
        "wbem/wmic.exe",
        "WindowsPowerShell/v1.0/powershell.exe",
        "OpenSSH/sshd.exe",
        "OpenSSH/ssh.exe",
        "OpenSSH/sftp-server.exe",
    ] {
        let size = 20_000 + seed_of(&format!("{name} {os:?}")) % 900_000;
        tree.add(&format!("/Windows/System32/{name}"), 0o755, 500, Age::Package, Inside::Program(size));
    }
    tree.add("/Windows/explorer.exe", 0o755, 500, Age::Package, Inside::Program(4_245_280));
    tree.add("/Windows/win.ini", 0o644, 500, Age::Package, Inside::Text(content::WIN_INI.into()));
    tree.add(
        "/Windows/System32/drivers/etc/hosts",
        0o644,
        500,
        Age::Package,
        Inside::Text(content::WINDOWS_HOSTS.into()),
    );
}

impl Own {
    /// What this machine has beside what its system brings.
    pub(super) fn new(machine: &Machine) -> Own {
        let mut tree = Tree(BTreeMap::new());
        let family = machine.facts().family;
        for user in machine.users() {
            if family == Family::Windows {
                for folder in
                    ["Desktop", "Documents", "Downloads", "Pictures", "Videos", "AppData/Local/Temp", "AppData/Roaming"]
                {
                    tree.add(&format!("{}/{folder}", user.home), 0o755, 500, Age::Used, Inside::Folder);
                }
                continue;
            }
            let mode = if user.uid == 0 { 0o700 } else { 0o755 };
            tree.add(&user.home, mode, user.uid, Age::Used, Inside::Folder);
            for (name, mode, text) in content::home(machine, user) {
                tree.add(&format!("{}/{name}", user.home), mode, user.uid, Age::Used, Inside::Text(text.into()));
            }
        }
        if family == Family::Windows {
            return Own(tree);
        }
        for user in accounts::of_daemons(machine, machine.users()) {
            if user.home != "/nonexistent" {
                tree.add(&user.home, 0o755, user.uid, Age::Used, Inside::Folder);
            }
        }
        if family != Family::Bsd {
            for process in processes::all(machine) {
                let folder = format!("/proc/{}", process.pid);
                tree.add(&folder, 0o555, process.uid, Age::Booted, Inside::Folder);
                let name = process.name().to_owned();
                let cmdline = if process.kernel { String::new() } else { process.command.replace(' ', "\0") + "\0" };
                let status = processes::status(&process);
                for (file, text) in [("cmdline", cmdline), ("comm", name + "\n"), ("status", status)] {
                    tree.add(&format!("{folder}/{file}"), 0o444, process.uid, Age::Booted, Inside::Text(text.into()));
                }
                if !process.kernel {
                    let program =
                        process.command.split_whitespace().next().unwrap_or("").trim_end_matches(':').to_owned();
                    if program.starts_with('/') {
                        tree.add(
                            &format!("{folder}/exe"),
                            0o777,
                            process.uid,
                            Age::Booted,
                            Inside::Link(program.into()),
                        );
                    }
                }
            }
            for (name, maker) in content::self_files() {
                tree.add(&format!("/proc/1/{name}"), 0o444, 0, Age::Booted, Inside::Made(*maker));
            }
            let interface = machine.facts().interface;
            let folder = format!("/sys/class/net/{interface}");
            tree.add(&folder, 0o755, 0, Age::Booted, Inside::Folder);
            let address = format!("{}\n", machine.persona().mac);
            tree.add(&format!("{folder}/address"), 0o444, 0, Age::Booted, Inside::Text(address.into()));
        }
        for (path, mode, text) in content::purpose(machine) {
            tree.add(&path, mode, 0, Age::Used, Inside::Text(text.into()));
        }
        Own(tree)
    }
}
