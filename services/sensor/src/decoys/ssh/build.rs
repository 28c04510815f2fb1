//! The builds of sshd: what each says, offers and is set to.
//!
//! The lists are those of the build, where the library has all of their algorithms. Where it lacks one (`umac-*`,
//! `sntrup761x25519`), the machine is one whose administrator has set the list, as hardening guides do: the lists here are
//! then what its `sshd_config` says.

use crate::persona::Os;

/// One build of sshd as a machine has it set up.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// What it says first, without the line end.
    pub banner: &'static str,
    /// Key exchanges in its order.
    pub kex: &'static str,
    /// Ciphers in its order.
    pub ciphers: &'static str,
    /// MACs in its order.
    pub macs: &'static str,
    /// Whether RSA host keys are also offered with SHA-1, and first.
    pub sha1: Sha1,
    /// Whether it has the strict key exchange.
    pub strict: bool,
    /// Bits of its RSA host key.
    pub rsa_bits: usize,
    /// Whether it asks by keyboard-interactive too.
    pub keyboard: bool,
}

/// Where `ssh-rsa` stands among the host keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sha1 {
    /// Nowhere, from 8.8 on.
    No,
    /// After the newer ones.
    Last,
    /// Before them, up to 8.1.
    First,
}

const KEX: &str = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,\
diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256";
const KEX_RED_HAT: &str = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,\
diffie-hellman-group-exchange-sha256,diffie-hellman-group14-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512";
const KEX_OLD: &str = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,\
diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256,\
diffie-hellman-group14-sha1";
const CIPHERS: &str =
    "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com";
const CIPHERS_RED_HAT: &str =
    "aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes128-gcm@openssh.com,aes128-ctr";
/// No build has this without being told so: it is the list that hardening guides give.
const MACS: &str = "hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512,hmac-sha2-256";

impl Build {
    /// Of this system.
    pub fn of(os: Os) -> Build {
        let new = Build {
            banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u2",
            kex: KEX,
            ciphers: CIPHERS,
            macs: MACS,
            sha1: Sha1::No,
            strict: true,
            rsa_bits: 3072,
            keyboard: false,
        };
        match os {
            Os::Debian12 => new,
            Os::Debian11 => Build { banner: "SSH-2.0-OpenSSH_8.4p1 Debian-5+deb11u3", sha1: Sha1::Last, ..new },
            Os::Ubuntu2204 => Build { banner: "SSH-2.0-OpenSSH_8.9p1 Ubuntu-3ubuntu0.7", ..new },
            Os::Ubuntu2004 => Build { banner: "SSH-2.0-OpenSSH_8.2p1 Ubuntu-4ubuntu0.11", sha1: Sha1::Last, ..new },
            Os::Rocky9 => Build { banner: "SSH-2.0-OpenSSH_8.7", kex: KEX_RED_HAT, ciphers: CIPHERS_RED_HAT, ..new },
            Os::CentOs7 => Build {
                banner: "SSH-2.0-OpenSSH_7.4",
                kex: KEX_OLD,
                sha1: Sha1::First,
                strict: false,
                rsa_bits: 2048,
                ..new
            },
            Os::FreeBsd13 => {
                Build { banner: "SSH-2.0-OpenSSH_9.3 FreeBSD-20230316", strict: false, keyboard: true, ..new }
            }
            Os::BusyBox => Build { banner: "SSH-2.0-OpenSSH_8.4", sha1: Sha1::Last, strict: false, ..new },
            Os::WindowsServer2019 => Build {
                banner: "SSH-2.0-OpenSSH_for_Windows_7.7",
                kex: KEX_OLD,
                sha1: Sha1::First,
                strict: false,
                rsa_bits: 2048,
                ..new
            },
            Os::Windows10 => Build {
                banner: "SSH-2.0-OpenSSH_for_Windows_8.1",
                kex: KEX_OLD,
                sha1: Sha1::First,
                strict: false,
                ..new
            },
        }
    }

    /// Host key algorithms in its order.
    pub fn host_keys(&self) -> &'static [&'static str] {
        match self.sha1 {
            Sha1::No => &["rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256", "ssh-ed25519"],
            Sha1::Last => &["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519"],
            Sha1::First => &["ssh-rsa", "rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256", "ssh-ed25519"],
        }
    }
}

/// `/etc/ssh/sshd_config`, which says the same as the key exchange.
pub fn sshd_config(os: Os) -> String {
    let build = Build::of(os);
    let mut text = String::from("Include /etc/ssh/sshd_config.d/*.conf\n\nPort 22\n#AddressFamily any\n\n");
    if matches!(os, Os::CentOs7 | Os::BusyBox | Os::FreeBsd13 | Os::WindowsServer2019 | Os::Windows10) {
        text = String::from("#Port 22\n#AddressFamily any\n\n");
    }
    text.push_str("HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/ssh_host_ecdsa_key\nHostKey /etc/ssh/ssh_host_ed25519_key\n\n# Hardening\n");
    let default_kex = matches!(os, Os::Debian11 | Os::Ubuntu2004 | Os::Rocky9 | Os::BusyBox);
    if !default_kex {
        text.push_str(&format!("KexAlgorithms {}\n", build.kex));
    }
    if os == Os::CentOs7 {
        text.push_str(&format!("Ciphers {}\n", build.ciphers));
    }
    text.push_str(&format!("MACs {}\n\n#LoginGraceTime 2m\nPermitRootLogin yes\n#MaxAuthTries 6\n#MaxSessions 10\n\nPasswordAuthentication yes\n", build.macs));
    if !build.keyboard {
        text.push_str(match os {
            Os::Debian12 | Os::Ubuntu2204 | Os::Rocky9 => "KbdInteractiveAuthentication no\n",
            _ => "ChallengeResponseAuthentication no\n",
        });
    }
    text.push_str("GSSAPIAuthentication no\nUsePAM yes\nAllowTcpForwarding no\nX11Forwarding no\nPrintMotd no\nAcceptEnv LANG LC_*\nSubsystem sftp /usr/lib/openssh/sftp-server\n");
    text
}
