//! The builds of PostgreSQL that systems have.

use crate::persona::Os;

/// A build as it shows itself.
#[derive(Debug)]
pub(super) struct Build {
    /// As `server_version` says it.
    pub(super) version: &'static str,
    /// `server_version_num`.
    pub(super) number: i64,
    /// As `version()` says it.
    pub(super) full: &'static str,
    /// Where a file of its source is, and in which line it refuses a protocol: scanners look at that.
    pub(super) source: &'static str,
    pub(super) line: &'static str,
    /// The oldest protocol that it speaks, as it says.
    pub(super) oldest: &'static str,
    /// Whether TLS is on at first.
    pub(super) tls: bool,
    /// How passwords are kept at first.
    pub(super) scram: bool,
    /// Its folder of data.
    pub(super) data: &'static str,
    /// Its folder of settings.
    pub(super) settings: &'static str,
    /// The locale of its databases.
    pub(super) locale: &'static str,
}

const DEBIAN_12: Build = Build {
    version: "15.18 (Debian 15.18-0+deb12u1)",
    number: 150_018,
    full: "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14+deb12u1) \
           12.2.0, 64-bit",
    source: "",
    line: "2222",
    oldest: "3.0",
    tls: true,
    scram: true,
    data: "/var/lib/postgresql/15/main",
    settings: "/etc/postgresql/15/main",
    locale: "en_US.UTF-8",
};

impl Build {
    /// The build that such a system has.
    pub(super) fn of(os: Os) -> Build {
        match os {
            Os::Debian12 => DEBIAN_12,
            Os::Debian11 => Build {
                version: "13.8 (Debian 13.8-0+deb11u1)",
                number: 130_008,
                full: "PostgreSQL 13.8 (Debian 13.8-0+deb11u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 10.2.1-6) \
                       10.2.1 20210110, 64-bit",
                line: "2133",
                oldest: "2.0",
                scram: false,
                data: "/var/lib/postgresql/13/main",
                settings: "/etc/postgresql/13/main",
                ..DEBIAN_12
            },
            Os::Ubuntu2204 => Build {
                version: "14.5 (Ubuntu 14.5-0ubuntu0.22.04.1)",
                number: 140_005,
                full: "PostgreSQL 14.5 (Ubuntu 14.5-0ubuntu0.22.04.1) on x86_64-pc-linux-gnu, compiled by gcc (Ubuntu \
                       11.2.0-19ubuntu1) 11.2.0, 64-bit",
                line: "2138",
                data: "/var/lib/postgresql/14/main",
                settings: "/etc/postgresql/14/main",
                ..DEBIAN_12
            },
            Os::Ubuntu2004 => Build {
                version: "12.12 (Ubuntu 12.12-0ubuntu0.20.04.1)",
                number: 120_012,
                full: "PostgreSQL 12.12 (Ubuntu 12.12-0ubuntu0.20.04.1) on x86_64-pc-linux-gnu, compiled by gcc (Ubuntu \
                       9.4.0-1ubuntu1~20.04.1) 9.4.0, 64-bit",
                line: "2119",
                oldest: "2.0",
                scram: false,
                data: "/var/lib/postgresql/12/main",
                settings: "/etc/postgresql/12/main",
                ..DEBIAN_12
            },
            Os::Rocky9 => Build {
                version: "13.7",
                number: 130_007,
                full: "PostgreSQL 13.7 on x86_64-redhat-linux-gnu, compiled by gcc (GCC) 11.2.1 20220127 (Red Hat \
                       11.2.1-9), 64-bit",
                line: "2133",
                oldest: "2.0",
                tls: false,
                scram: false,
                data: "/var/lib/pgsql/data",
                settings: "/var/lib/pgsql/data",
                ..DEBIAN_12
            },
            Os::CentOs7 => Build {
                version: "9.2.24",
                number: 90_224,
                full: "PostgreSQL 9.2.24 on x86_64-redhat-linux-gnu, compiled by gcc (GCC) 4.8.5 20150623 (Red Hat \
                       4.8.5-44), 64-bit",
                line: "1755",
                oldest: "1.0",
                tls: false,
                scram: false,
                data: "/var/lib/pgsql/data",
                settings: "/var/lib/pgsql/data",
                ..DEBIAN_12
            },
            Os::WindowsServer2019 | Os::Windows10 => Build {
                version: "14.5",
                number: 140_005,
                full: "PostgreSQL 14.5, compiled by Visual C++ build 1914, 64-bit",
                source: ".\\src\\backend\\",
                line: "2138",
                tls: false,
                data: "C:/Program Files/PostgreSQL/14/data",
                settings: "C:/Program Files/PostgreSQL/14/data",
                locale: "English_United States.1252",
                ..DEBIAN_12
            },
            Os::FreeBsd13 => Build {
                version: "13.8",
                number: 130_008,
                full: "PostgreSQL 13.8 on amd64-portbld-freebsd13.1, compiled by FreeBSD clang version 13.0.0 \
                       (git@github.com:llvm/llvm-project.git llvmorg-13.0.0-0-gd7b669b3a303), 64-bit",
                line: "2133",
                oldest: "2.0",
                tls: false,
                scram: false,
                data: "/var/db/postgres/data13",
                settings: "/var/db/postgres/data13",
                locale: "C",
                ..DEBIAN_12
            },
            Os::BusyBox => Build {
                version: "9.6.24",
                number: 90_624,
                full: "PostgreSQL 9.6.24 on arm-unknown-linux-gnueabi, compiled by arm-unknown-linux-gnueabi-gcc 4.9.3, 32-bit",
                line: "2063",
                oldest: "1.0",
                tls: false,
                scram: false,
                data: "/var/services/pgsql",
                settings: "/var/services/pgsql",
                locale: "C",
                ..DEBIAN_12
            },
        }
    }

    /// A place in its source, as errors name it.
    pub(super) fn place(&self, folder: &str, file: &str) -> String {
        if self.source.is_empty() { file.to_owned() } else { format!("{}{folder}\\{file}", self.source) }
    }
}
