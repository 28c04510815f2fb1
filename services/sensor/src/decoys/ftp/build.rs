//! The builds of FTP servers: their words for everything.

use crate::persona::{Os, Persona};

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// vsFTPd 3.0.3 and 3.0.5.
    Vsftpd(&'static str),
    /// ProFTPD 1.3, and the title that it is set to.
    ProFtpd(&'static str, &'static str),
    /// FileZilla Server 0.9.41.
    FileZilla,
    /// Microsoft FTP of IIS.
    Iis,
    /// BusyBox' ftpd.
    BusyBox,
}

impl Build {
    /// Of this machine.
    pub fn of(persona: &Persona) -> Build {
        let pro = persona.number("ftp server", 3) == 0;
        match persona.os {
            Os::WindowsServer2019 => Build::Iis,
            Os::Windows10 => Build::FileZilla,
            Os::BusyBox => Build::BusyBox,
            Os::Debian12 if pro => Build::ProFtpd("1.3.8", "Debian"),
            Os::Debian11 if pro => Build::ProFtpd("1.3.7a", "Debian"),
            Os::FreeBsd13 => Build::ProFtpd("1.3.8", "ProFTPD Default Installation"),
            Os::Ubuntu2204 | Os::Rocky9 => Build::Vsftpd("3.0.5"),
            Os::CentOs7 => Build::Vsftpd("3.0.2"),
            _ => Build::Vsftpd("3.0.3"),
        }
    }

    /// The greeting.
    pub fn greeting(self, address: &str) -> String {
        match self {
            Build::Vsftpd(version) => format!("220 (vsFTPd {version})"),
            Build::ProFtpd(version, title) => format!("220 ProFTPD {version} Server ({title}) [{address}]"),
            Build::FileZilla => "220-FileZilla Server version 0.9.41 beta\r\n220-written by Tim Kosse (Tim.Kosse@gmx.de)\r\n220 Please visit http://sourceforge.net/projects/filezilla/".to_owned(),
            Build::Iis => "220 Microsoft FTP Service".to_owned(),
            Build::BusyBox => "220 Operation successful".to_owned(),
        }
    }

    /// A server that says one thing for all that went well.
    fn plain(self, code: u16) -> Option<String> {
        (self == Build::BusyBox).then(|| {
            let text = match code {
                331 => "Specify password",
                530 => "Login failed",
                400..=599 => "Error",
                150 => "Opening BINARY connection",
                _ => "Operation successful",
            };
            format!("{code} {text}")
        })
    }

    /// After USER.
    pub fn need_password(self, user: &str, anonymous: bool) -> String {
        self.plain(331).unwrap_or_else(|| match self {
            Build::Vsftpd(_) => "331 Please specify the password.".to_owned(),
            Build::ProFtpd(..) if anonymous => {
                "331 Anonymous login ok, send your complete email address as your password".to_owned()
            }
            Build::Iis if anonymous => {
                "331 Anonymous access allowed, send identity (e-mail name) as password.".to_owned()
            }
            Build::Iis => "331 Password required".to_owned(),
            _ => format!("331 Password required for {user}"),
        })
    }

    /// After a password that is right.
    pub fn logged_in(self, user: &str, anonymous: bool) -> String {
        self.plain(230).unwrap_or_else(|| match self {
            Build::Vsftpd(_) => "230 Login successful.".to_owned(),
            Build::ProFtpd(..) if anonymous => "230 Anonymous access granted, restrictions apply".to_owned(),
            Build::ProFtpd(..) => format!("230 User {user} logged in"),
            Build::FileZilla => "230 Logged on".to_owned(),
            _ => "230 User logged in.".to_owned(),
        })
    }

    /// After one that is wrong.
    pub fn refused(self) -> String {
        self.plain(530).unwrap_or_else(|| match self {
            Build::FileZilla => "530 Login or password incorrect!".to_owned(),
            Build::Iis => "530 User cannot log in.".to_owned(),
            _ => "530 Login incorrect.".to_owned(),
        })
    }

    /// Where a login is needed first.
    pub fn not_logged_in(self) -> String {
        self.plain(530).unwrap_or_else(|| match self {
            Build::Vsftpd(_) => "530 Please login with USER and PASS.".to_owned(),
            Build::FileZilla => "530 Please log in with USER and PASS first.".to_owned(),
            _ => "530 Please login with USER and PASS".to_owned(),
        })
    }

    /// PASS without USER.
    pub fn user_first(self) -> &'static str {
        match self {
            Build::Vsftpd(_) => "503 Login with USER first.",
            Build::FileZilla => "503 Bad sequence of commands.",
            _ => "503 Login with USER first",
        }
    }

    /// The kind of system.
    pub fn system(self) -> &'static str {
        match self {
            Build::Iis => "215 Windows_NT",
            Build::FileZilla => "215 UNIX emulated by FileZilla",
            _ => "215 UNIX Type: L8",
        }
    }

    /// What it can.
    pub fn features(self) -> String {
        let (head, list, tail) = match self {
            Build::Vsftpd(_) => {
                ("211-Features:", " EPRT\r\n EPSV\r\n MDTM\r\n PASV\r\n REST STREAM\r\n SIZE\r\n TVFS\r\n", "211 End")
            }
            Build::ProFtpd(..) => (
                "211-Features:",
                " CLNT\r\n EPRT\r\n EPSV\r\n HOST\r\n LANG en-US.UTF-8*\r\n MDTM\r\n MFF modify;UNIX.group;UNIX.mode;\r\n MFMT\r\n MLST modify*;perm*;size*;type*;unique*;UNIX.group*;UNIX.groupname*;UNIX.mode*;UNIX.owner*;UNIX.ownername*;\r\n REST STREAM\r\n SIZE\r\n TVFS\r\n UTF8\r\n",
                "211 End",
            ),
            Build::FileZilla => (
                "211-Features:",
                " MDTM\r\n REST STREAM\r\n SIZE\r\n MLST type*;size*;modify*;\r\n MLSD\r\n UTF8\r\n CLNT\r\n MFMT\r\n",
                "211 End",
            ),
            Build::Iis => (
                "211-Extended features supported:",
                " LANG EN*\r\n UTF8\r\n AUTH TLS;TLS-C;SSL;TLS-P;\r\n PBSZ\r\n PROT C;P;\r\n CCC\r\n HOST\r\n SIZE\r\n MDTM\r\n REST STREAM\r\n",
                "211 END",
            ),
            Build::BusyBox => ("211-Features:", " EPSV\r\n PASV\r\n REST STREAM\r\n MDTM\r\n SIZE\r\n", "211 Ok"),
        };
        format!("{head}\r\n{list}{tail}")
    }

    /// A command that it does not know.
    pub fn unknown(self, command: &str) -> String {
        match self {
            Build::Vsftpd(_) => "500 Unknown command.".to_owned(),
            Build::ProFtpd(..) => format!("500 {command} not understood"),
            Build::FileZilla => "500 Syntax error, command unrecognized.".to_owned(),
            Build::Iis => format!("500 '{command}': command not understood."),
            Build::BusyBox => "500 Unknown command".to_owned(),
        }
    }

    /// PORT and EPRT: as each is where active transfers are switched off.
    pub fn no_active(self) -> &'static str {
        match self {
            Build::Vsftpd(_) => "550 Permission denied.",
            Build::ProFtpd(..) => "500 Illegal PORT command",
            Build::FileZilla => "421 Rejected command, requested IP address does not match control connection IP.",
            Build::Iis => "501 Server cannot accept argument.",
            Build::BusyBox => "500 Unknown command",
        }
    }

    /// The answer to PASV.
    pub fn passive(self, [a, b, c, d]: [u8; 4], port: u16) -> String {
        let [high, low] = port.to_be_bytes();
        match self {
            Build::BusyBox => format!("227 PASV ok ({a},{b},{c},{d},{high},{low})"),
            Build::Vsftpd(_) | Build::ProFtpd(..) | Build::Iis => {
                format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low}).")
            }
            Build::FileZilla => format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})"),
        }
    }

    /// A transfer begins.
    pub fn opening(self, name: &str, size: Option<u64>, listing: bool) -> String {
        self.plain(150).unwrap_or_else(|| match (self, listing, size) {
            (Build::Vsftpd(_), true, _) => "150 Here comes the directory listing.".to_owned(),
            (Build::Vsftpd(_), false, Some(size)) => {
                format!("150 Opening BINARY mode data connection for {name} ({size} bytes).")
            }
            (Build::Vsftpd(_), false, None) => "150 Ok to send data.".to_owned(),
            (Build::ProFtpd(..), true, _) => "150 Opening ASCII mode data connection for file list".to_owned(),
            (Build::ProFtpd(..), false, Some(size)) => {
                format!("150 Opening BINARY mode data connection for {name} ({size} bytes)")
            }
            (Build::ProFtpd(..), false, None) => format!("150 Opening BINARY mode data connection for {name}"),
            (Build::FileZilla, true, _) => "150 Opening data channel for directory listing of \"/\"".to_owned(),
            (Build::FileZilla, false, Some(_)) => {
                format!("150 Opening data channel for file download from server of \"/{name}\"")
            }
            (Build::FileZilla, false, None) => {
                format!("150 Opening data channel for file upload to server of \"/{name}\"")
            }
            _ => "125 Data connection already open; Transfer starting.".to_owned(),
        })
    }

    /// It is done.
    pub fn done(self, listing: bool) -> String {
        self.plain(226).unwrap_or_else(|| match self {
            Build::Vsftpd(_) if listing => "226 Directory send OK.".to_owned(),
            Build::Vsftpd(_) => "226 Transfer complete.".to_owned(),
            Build::ProFtpd(..) => "226 Transfer complete".to_owned(),
            Build::FileZilla => "226 Successfully transferred \"/\"".to_owned(),
            _ => "226 Transfer complete.".to_owned(),
        })
    }

    /// A file or folder that cannot be had.
    pub fn no_file(self, path: &str, what: &str) -> String {
        self.plain(550).unwrap_or_else(|| match self {
            Build::Vsftpd(_) => format!("550 {what}"),
            Build::ProFtpd(..) => format!("550 {path}: No such file or directory"),
            Build::FileZilla => "550 File not found".to_owned(),
            _ => "550 The system cannot find the file specified. ".to_owned(),
        })
    }

    /// A change that went well.
    pub fn changed(self, command: &str, text: &str) -> String {
        self.plain(250).unwrap_or_else(|| match self {
            Build::Vsftpd(_) => format!("250 {text}"),
            Build::ProFtpd(..) => format!("250 {command} command successful"),
            Build::FileZilla => format!("250 {text}"),
            _ => format!("250 {command} command successful."),
        })
    }

    /// 200 to what needs no more.
    pub fn okay(self, command: &str) -> String {
        self.plain(200).unwrap_or_else(|| match (self, command) {
            (Build::Vsftpd(_), "TYPE I") => "200 Switching to Binary mode.".to_owned(),
            (Build::Vsftpd(_), "TYPE A") => "200 Switching to ASCII mode.".to_owned(),
            (Build::Vsftpd(_), "NOOP") => "200 NOOP ok.".to_owned(),
            (Build::Vsftpd(_), "OPTS UTF8 ON") => "200 Always in UTF8 mode.".to_owned(),
            (Build::Vsftpd(_), "MODE") => "200 Mode set to S.".to_owned(),
            (Build::Vsftpd(_), "STRU") => "200 Structure set to F.".to_owned(),
            (Build::ProFtpd(..), command) if command.starts_with("TYPE") => {
                format!("200 Type set to {}", command.get(5..).unwrap_or("I"))
            }
            (Build::ProFtpd(..), command) => {
                format!("200 {} command successful", command.split(' ').next().unwrap_or(""))
            }
            (Build::FileZilla, command) if command.starts_with("TYPE") => {
                format!("200 Type set to {}", command.get(5..).unwrap_or("I"))
            }
            (Build::FileZilla, _) => "200 OK".to_owned(),
            (_, command) if command.starts_with("TYPE") => {
                format!("200 Type set to {}.", command.get(5..).unwrap_or("I"))
            }
            (_, command) => format!("200 {} command successful.", command.split(' ').next().unwrap_or("")),
        })
    }

    /// The folder that the client is in.
    pub fn folder(self, path: &str) -> String {
        match self {
            Build::Vsftpd(_) | Build::ProFtpd(..) => {
                let end = if matches!(self, Build::Vsftpd("3.0.2")) { "" } else { " is the current directory" };
                format!("257 \"{path}\"{end}")
            }
            Build::BusyBox => format!("257 \"{path}\""),
            _ => format!("257 \"{path}\" is current directory."),
        }
    }

    /// Farewell.
    pub fn goodbye(self) -> &'static str {
        match self {
            Build::Vsftpd(_) | Build::ProFtpd(..) | Build::Iis => "221 Goodbye.",
            Build::FileZilla => "221 Goodbye",
            Build::BusyBox => "221 Operation successful",
        }
    }
}
