//! The builds of MySQL and MariaDB that systems have.

use crate::persona::Os;

/// A build as it shows itself.
#[derive(Debug)]
pub(super) struct Build {
    /// In the greeting.
    pub(super) greeting: &'static str,
    /// As `VERSION()` says it.
    pub(super) version: &'static str,
    /// `@@version_comment`.
    pub(super) comment: &'static str,
    /// Whether it is MariaDB.
    pub(super) maria: bool,
    /// What it can, as it says: the lower and the upper half.
    pub(super) can: u32,
    /// What only MariaDB can.
    pub(super) maria_can: u32,
    /// The number of its character set.
    pub(super) charset: u8,
    /// Its name and its collation.
    pub(super) charset_name: (&'static str, &'static str),
    /// Its way of logging in.
    pub(super) plugin: &'static str,
    /// `@@version_compile_os`.
    pub(super) compiled_for: &'static str,
    /// `@@datadir`, `@@plugin_dir`, `@@basedir`, `@@secure_file_priv`.
    pub(super) data: &'static str,
    pub(super) plugins: &'static str,
    pub(super) base: &'static str,
    pub(super) files: Option<&'static str>,
    /// `@@sql_mode`.
    pub(super) mode: &'static str,
}

const MODE_8: &str = "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION";
const MODE_MARIA: &str = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION";

const MYSQL_8: Build = Build {
    greeting: "8.0.35-0ubuntu0.22.04.1",
    version: "8.0.35-0ubuntu0.22.04.1",
    comment: "(Ubuntu)",
    maria: false,
    can: 0xdfff_ffff,
    maria_can: 0,
    charset: 255,
    charset_name: ("utf8mb4", "utf8mb4_0900_ai_ci"),
    plugin: "caching_sha2_password",
    compiled_for: "Linux",
    data: "/var/lib/mysql/",
    plugins: "/usr/lib/mysql/plugin/",
    base: "/usr/",
    files: Some("/var/lib/mysql-files/"),
    mode: MODE_8,
};

const MARIA: Build = Build {
    greeting: "5.5.5-10.11.6-MariaDB-0+deb12u1",
    version: "10.11.6-MariaDB-0+deb12u1",
    comment: "Debian 12",
    maria: true,
    can: 0x81ff_f7fe,
    maria_can: 0x1d,
    charset: 45,
    charset_name: ("utf8mb4", "utf8mb4_general_ci"),
    plugin: "mysql_native_password",
    compiled_for: "debian-linux-gnu",
    data: "/var/lib/mysql/",
    plugins: "/usr/lib/mysql/plugin/",
    base: "/usr",
    files: None,
    mode: MODE_MARIA,
};

impl Build {
    /// The build that such a system has.
    pub(super) fn of(os: Os) -> Build {
        match os {
            Os::Debian12 => MARIA,
            Os::Debian11 => Build {
                greeting: "5.5.5-10.5.23-MariaDB-0+deb11u1",
                version: "10.5.23-MariaDB-0+deb11u1",
                comment: "Debian 11",
                maria_can: 0x0d,
                ..MARIA
            },
            Os::Ubuntu2204 => MYSQL_8,
            Os::Ubuntu2004 => {
                Build { greeting: "8.0.36-0ubuntu0.20.04.1", version: "8.0.36-0ubuntu0.20.04.1", ..MYSQL_8 }
            }
            Os::Rocky9 => Build {
                greeting: "8.0.36",
                version: "8.0.36",
                comment: "Source distribution",
                plugins: "/usr/lib64/mysql/plugin/",
                ..MYSQL_8
            },
            Os::CentOs7 => Build {
                greeting: "5.5.68-MariaDB",
                version: "5.5.68-MariaDB",
                comment: "MariaDB Server",
                can: 0x800f_f7ff,
                maria_can: 0,
                charset: 8,
                charset_name: ("latin1", "latin1_swedish_ci"),
                compiled_for: "Linux",
                plugins: "/usr/lib64/mysql/plugin/",
                mode: "",
                ..MARIA
            },
            Os::WindowsServer2019 | Os::Windows10 => Build {
                greeting: "8.0.36",
                version: "8.0.36",
                comment: "MySQL Community Server - GPL",
                compiled_for: "Win64",
                data: "C:\\ProgramData\\MySQL\\MySQL Server 8.0\\Data\\",
                plugins: "C:\\Program Files\\MySQL\\MySQL Server 8.0\\lib\\plugin\\",
                base: "C:\\Program Files\\MySQL\\MySQL Server 8.0\\",
                files: Some("C:\\ProgramData\\MySQL\\MySQL Server 8.0\\Uploads\\"),
                ..MYSQL_8
            },
            Os::FreeBsd13 => Build {
                greeting: "8.0.35",
                version: "8.0.35",
                comment: "Source distribution",
                compiled_for: "FreeBSD13.2",
                data: "/var/db/mysql/",
                plugins: "/usr/local/lib/mysql/plugin/",
                base: "/usr/local/",
                files: Some("/var/db/mysql_secure/"),
                ..MYSQL_8
            },
            Os::BusyBox => Build {
                greeting: "5.5.5-10.3.32-MariaDB",
                version: "10.3.32-MariaDB",
                comment: "Source distribution",
                maria_can: 0x05,
                charset: 8,
                charset_name: ("latin1", "latin1_swedish_ci"),
                compiled_for: "Linux",
                ..MARIA
            },
        }
    }

    /// What the manual is of, in error texts.
    pub(super) fn product(&self) -> &'static str {
        if self.maria { "MariaDB" } else { "MySQL" }
    }
}
