//! What each system says of itself: names, versions, kernels; facts of one real build each.

use crate::persona::Os;

/// The kind of system: its shell, its folders, its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// With dpkg.
    Debian,
    /// With rpm.
    RedHat,
    /// FreeBSD.
    Bsd,
    /// A device.
    BusyBox,
    /// Windows, with its own shell.
    Windows,
}

/// One build of a system.
#[derive(Debug)]
pub struct Facts {
    /// Its kind.
    pub family: Family,
    /// `uname -s`.
    pub kernel_name: &'static str,
    /// `uname -r`.
    pub kernel: &'static str,
    /// `uname -v`.
    pub kernel_version: &'static str,
    /// `uname -m`.
    pub machine: &'static str,
    /// `uname -o`.
    pub operating_system: &'static str,
    /// `PRETTY_NAME`.
    pub pretty: &'static str,
    /// `NAME`.
    pub name: &'static str,
    /// `ID`.
    pub id: &'static str,
    /// `ID_LIKE`, or empty.
    pub like: &'static str,
    /// `VERSION_ID`.
    pub version_id: &'static str,
    /// `VERSION`.
    pub version: &'static str,
    /// Code name, or empty.
    pub codename: &'static str,
    /// `/etc/issue` without the line of the terminal.
    pub issue: &'static str,
    /// Version of bash, or of BusyBox.
    pub shell: &'static str,
    /// The compiler that made the kernel, as /proc/version has it.
    pub compiler: &'static str,
    /// What the ssh server's package is called in its version.
    pub ssh: &'static str,
    /// The network interface.
    pub interface: &'static str,
    /// First user id of people.
    pub first_uid: u32,
}

impl Facts {
    /// Of this system.
    pub fn of(os: Os) -> &'static Facts {
        match os {
            Os::Debian12 => &DEBIAN_12,
            Os::Debian11 => &DEBIAN_11,
            Os::Ubuntu2204 => &UBUNTU_2204,
            Os::Ubuntu2004 => &UBUNTU_2004,
            Os::Rocky9 => &ROCKY_9,
            Os::CentOs7 => &CENTOS_7,
            Os::WindowsServer2019 => &WINDOWS_2019,
            Os::Windows10 => &WINDOWS_10,
            Os::FreeBsd13 => &FREEBSD_13,
            Os::BusyBox => &BUSYBOX,
        }
    }
}

const DEBIAN_12: Facts = Facts {
    family: Family::Debian,
    kernel_name: "Linux",
    kernel: "6.1.0-18-amd64",
    kernel_version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)",
    machine: "x86_64",
    operating_system: "GNU/Linux",
    pretty: "Debian GNU/Linux 12 (bookworm)",
    name: "Debian GNU/Linux",
    id: "debian",
    like: "",
    version_id: "12",
    version: "12 (bookworm)",
    codename: "bookworm",
    issue: "Debian GNU/Linux 12",
    shell: "5.2.15(1)-release",
    compiler: "(debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40)",
    ssh: "1:9.2p1-2+deb12u2",
    interface: "ens18",
    first_uid: 1000,
};

const DEBIAN_11: Facts = Facts {
    kernel: "5.10.0-28-amd64",
    kernel_version: "#1 SMP Debian 5.10.209-2 (2024-01-31)",
    pretty: "Debian GNU/Linux 11 (bullseye)",
    version_id: "11",
    version: "11 (bullseye)",
    codename: "bullseye",
    issue: "Debian GNU/Linux 11",
    shell: "5.1.4(1)-release",
    compiler: "(debian-kernel@lists.debian.org) (gcc-10 (Debian 10.2.1-6) 10.2.1 20210110, GNU ld (GNU Binutils for Debian) 2.35.2)",
    ssh: "1:8.4p1-5+deb11u3",
    ..DEBIAN_12
};

const UBUNTU_2204: Facts = Facts {
    kernel: "5.15.0-105-generic",
    kernel_version: "#115-Ubuntu SMP Mon Apr 15 09:52:04 UTC 2024",
    pretty: "Ubuntu 22.04.4 LTS",
    name: "Ubuntu",
    id: "ubuntu",
    like: "debian",
    version_id: "22.04",
    version: "22.04.4 LTS (Jammy Jellyfish)",
    codename: "jammy",
    issue: "Ubuntu 22.04.4 LTS",
    shell: "5.1.16(1)-release",
    compiler: "(buildd@lcy02-amd64-007) (gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0, GNU ld (GNU Binutils for Ubuntu) 2.38)",
    ssh: "1:8.9p1-3ubuntu0.7",
    interface: "ens160",
    ..DEBIAN_12
};

const UBUNTU_2004: Facts = Facts {
    kernel: "5.4.0-177-generic",
    kernel_version: "#197-Ubuntu SMP Thu Mar 28 22:45:47 UTC 2024",
    pretty: "Ubuntu 20.04.6 LTS",
    version_id: "20.04",
    version: "20.04.6 LTS (Focal Fossa)",
    codename: "focal",
    issue: "Ubuntu 20.04.6 LTS",
    shell: "5.0.17(1)-release",
    compiler: "(buildd@lcy02-amd64-064) (gcc version 9.4.0 (Ubuntu 9.4.0-1ubuntu1~20.04.2))",
    ssh: "1:8.2p1-4ubuntu0.11",
    ..UBUNTU_2204
};

const ROCKY_9: Facts = Facts {
    family: Family::RedHat,
    kernel: "5.14.0-427.13.1.el9_4.x86_64",
    kernel_version: "#1 SMP PREEMPT_DYNAMIC Wed May 1 19:11:28 UTC 2024",
    pretty: "Rocky Linux 9.4 (Blue Onyx)",
    name: "Rocky Linux",
    id: "rocky",
    like: "rhel centos fedora",
    version_id: "9.4",
    version: "9.4 (Blue Onyx)",
    codename: "",
    issue: "\\S",
    shell: "5.1.8(1)-release",
    compiler: "(mockbuild@iad1-prod-build001.bld.equ.rockylinux.org) (gcc (GCC) 11.4.1 20231218 (Red Hat 11.4.1-3), GNU ld version 2.35.2-43.el9)",
    ssh: "8.7p1-38.el9",
    interface: "ens192",
    ..DEBIAN_12
};

const CENTOS_7: Facts = Facts {
    kernel: "3.10.0-1160.114.2.el7.x86_64",
    kernel_version: "#1 SMP Wed Mar 20 15:54:52 UTC 2024",
    pretty: "CentOS Linux 7 (Core)",
    name: "CentOS Linux",
    id: "centos",
    like: "rhel fedora",
    version_id: "7",
    version: "7 (Core)",
    shell: "4.2.46(2)-release",
    compiler: "(mockbuild@kbuilder.bsys.centos.org) (gcc version 4.8.5 20150623 (Red Hat 4.8.5-44) (GCC) )",
    ssh: "7.4p1-23.el7_9",
    interface: "eth0",
    ..ROCKY_9
};

const FREEBSD_13: Facts = Facts {
    family: Family::Bsd,
    kernel_name: "FreeBSD",
    kernel: "13.2-RELEASE",
    kernel_version: "FreeBSD 13.2-RELEASE releng/13.2-n254617-525ecfdad597 GENERIC",
    machine: "amd64",
    operating_system: "FreeBSD",
    pretty: "FreeBSD 13.2-RELEASE",
    name: "FreeBSD",
    id: "freebsd",
    like: "",
    version_id: "13.2",
    version: "13.2-RELEASE",
    codename: "",
    issue: "FreeBSD",
    shell: "",
    compiler: "",
    ssh: "9.3p1",
    interface: "vtnet0",
    first_uid: 1001,
};

const BUSYBOX: Facts = Facts {
    family: Family::BusyBox,
    kernel_name: "Linux",
    kernel: "5.10.7",
    kernel_version: "#1 SMP Tue Mar 9 14:22:06 UTC 2021",
    machine: "armv7l",
    operating_system: "GNU/Linux",
    pretty: "Buildroot 2021.02",
    name: "Buildroot",
    id: "buildroot",
    like: "",
    version_id: "2021.02",
    version: "2021.02",
    codename: "",
    issue: "Welcome to Buildroot",
    shell: "1.33.0",
    compiler: "(build@build) (arm-buildroot-linux-gnueabihf-gcc.br_real (Buildroot 2021.02) 9.3.0, GNU ld (GNU Binutils) 2.35.2)",
    ssh: "8.4p1",
    interface: "eth0",
    first_uid: 1000,
};

const WINDOWS_2019: Facts = Facts {
    family: Family::Windows,
    kernel_name: "Windows_NT",
    kernel: "10.0.17763.5820",
    kernel_version: "10.0.17763 N/A Build 17763",
    machine: "AMD64",
    operating_system: "Windows",
    pretty: "Microsoft Windows Server 2019 Standard",
    name: "Windows",
    id: "windows",
    like: "",
    version_id: "10.0.17763",
    version: "1809",
    codename: "",
    issue: "",
    shell: "10.0.17763.5820",
    compiler: "",
    ssh: "7.7.2.1",
    interface: "Ethernet0",
    first_uid: 1000,
};

const WINDOWS_10: Facts = Facts {
    kernel: "10.0.19045.4291",
    kernel_version: "10.0.19045 N/A Build 19045",
    pretty: "Microsoft Windows 10 Pro",
    version_id: "10.0.19045",
    version: "22H2",
    shell: "10.0.19045.4291",
    ssh: "8.1.0.1",
    interface: "Ethernet",
    ..WINDOWS_2019
};
