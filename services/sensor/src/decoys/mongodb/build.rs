//! The builds of MongoDB that systems have.

use crate::persona::Os;

/// A build as it shows itself.
#[derive(Debug)]
pub(super) struct Build {
    pub(super) version: &'static str,
    pub(super) git: &'static str,
    /// The newest protocol that it speaks.
    pub(super) wire: i32,
    pub(super) numbers: [i32; 4],
    pub(super) openssl: &'static str,
    pub(super) target: (&'static str, &'static str),
    pub(super) allocator: &'static str,
    pub(super) data: &'static str,
    pub(super) config: &'static str,
}

const V6: Build = Build {
    version: "6.0.13",
    git: "3b13907f9bdf6bd3264d67140d6c215d51bbd20c",
    wire: 17,
    numbers: [6, 0, 13, 0],
    openssl: "OpenSSL 3.0.2 15 Mar 2022",
    target: ("ubuntu2204", "linux"),
    allocator: "tcmalloc",
    data: "/var/lib/mongodb",
    config: "/etc/mongod.conf",
};

const V5: Build = Build {
    version: "5.0.24",
    git: "f034f0c51b3dffef4b8c9452d77ede9888f28f66",
    wire: 13,
    numbers: [5, 0, 24, 0],
    openssl: "OpenSSL 1.1.1n  15 Mar 2022",
    target: ("debian11", "linux"),
    ..V6
};

impl Build {
    /// The build that such a system has.
    pub(super) fn of(os: Os) -> Build {
        match os {
            Os::Ubuntu2204 => V6,
            Os::Debian12 => Build { openssl: "OpenSSL 3.0.11 19 Sep 2023", target: ("debian12", "linux"), ..V6 },
            Os::Rocky9 => {
                Build { openssl: "OpenSSL 3.0.7 1 Nov 2022", target: ("rhel90", "linux"), data: "/var/lib/mongo", ..V6 }
            }
            Os::Debian11 => V5,
            Os::Ubuntu2004 => Build { openssl: "OpenSSL 1.1.1f  31 Mar 2020", target: ("ubuntu2004", "linux"), ..V5 },
            Os::WindowsServer2019 | Os::Windows10 => Build {
                openssl: "Windows SChannel",
                target: ("windows", "windows"),
                data: "C:\\Program Files\\MongoDB\\Server\\5.0\\data",
                config: "C:\\Program Files\\MongoDB\\Server\\5.0\\bin\\mongod.cfg",
                ..V5
            },
            Os::CentOs7 | Os::FreeBsd13 | Os::BusyBox => Build {
                version: "4.2.24",
                git: "5e4ec1d24431fcdd28b579a024c5c801b8cde4e2",
                wire: 8,
                numbers: [4, 2, 24, 0],
                openssl: "OpenSSL 1.0.1e-fips 11 Feb 2013",
                target: ("rhel70", "linux"),
                data: "/var/lib/mongo",
                ..V6
            },
        }
    }
}
