//! How clients log in: the greeting, the answer to it, and the passwords behind scrambled bytes.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use super::{build::Build, packet};
use crate::decoys::wire::{Bytes, text};

/// The client wants, or the server can.
pub(super) mod can {
    pub(in super::super) const MYSQL: u32 = 1;
    pub(in super::super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(in super::super) const COMPRESS: u32 = 1 << 5;
    pub(in super::super) const SSL: u32 = 1 << 11;
    pub(in super::super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(in super::super) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(in super::super) const CONNECT_ATTRS: u32 = 1 << 20;
    pub(in super::super) const LENENC_AUTH: u32 = 1 << 21;
    pub(in super::super) const DEPRECATE_EOF: u32 = 1 << 24;
    pub(in super::super) const ZSTD: u32 = 1 << 26;
    pub(in super::super) const QUERY_ATTRIBUTES: u32 = 1 << 27;
    pub(in super::super) const MARIA_EXTENDED_METADATA: u32 = 1 << 3;
    pub(in super::super) const MARIA_CACHE_METADATA: u32 = 1 << 4;
}

/// What a client says of itself.
#[derive(Default)]
pub(super) struct Hello {
    pub(super) wants: u32,
    pub(super) maria_wants: u32,
    pub(super) user: String,
    pub(super) response: Vec<u8>,
    pub(super) database: String,
    pub(super) plugin: String,
    pub(super) attributes: Vec<(String, String)>,
}

/// The first packet of the server.
pub(super) fn greeting(build: &Build, id: u32, salt: &[u8; 20]) -> Vec<u8> {
    let mut out = vec![10];
    out.extend(build.greeting.bytes());
    out.push(0);
    out.extend(id.to_le_bytes());
    out.extend(salt.iter().take(8));
    out.push(0);
    out.extend(build.can.to_le_bytes().iter().take(2));
    out.push(build.charset);
    out.extend(2_u16.to_le_bytes());
    out.extend(build.can.to_le_bytes().iter().skip(2));
    out.push(21);
    out.extend([0; 6]);
    out.extend(build.maria_can.to_le_bytes());
    out.extend(salt.iter().skip(8));
    out.push(0);
    if build.can & can::PLUGIN_AUTH != 0 {
        out.extend(build.plugin.bytes());
        out.push(0);
    }
    out
}

/// The client's answer to the greeting. A packet that only asks for TLS has no user.
pub(super) fn hello(packet: &[u8], build: &Build) -> Option<Hello> {
    let mut bytes = Bytes(packet);
    let wants = bytes.le32()?;
    let mut hello = Hello { wants, ..Hello::default() };
    bytes.le32()?;
    bytes.byte()?;
    bytes.take(19)?;
    let maria_wants = bytes.le32()?;
    if wants & can::MYSQL == 0 {
        hello.maria_wants = maria_wants & build.maria_can;
    }
    if bytes.is_empty() {
        return Some(hello);
    }
    hello.user = text(bytes.until_zero()?);
    hello.response = if wants & can::LENENC_AUTH != 0 {
        packet::sized(&mut bytes)?
    } else if wants & can::SECURE_CONNECTION != 0 {
        let length = bytes.byte()?;
        bytes.take(usize::from(length))?
    } else {
        bytes.until_zero().unwrap_or_default()
    }
    .to_vec();
    if wants & can::CONNECT_WITH_DB != 0 {
        // The last part may lack its zero.
        hello.database = text(match bytes.until_zero() {
            Some(database) => database,
            None => bytes.rest(),
        });
    }
    if wants & can::PLUGIN_AUTH != 0 {
        hello.plugin = text(match bytes.until_zero() {
            Some(plugin) => plugin,
            None => bytes.rest(),
        });
    }
    if wants & can::CONNECT_ATTRS != 0
        && let Some(all) = packet::sized(&mut bytes)
    {
        let mut all = Bytes(all);
        while let (Some(key), Some(value)) = (packet::sized(&mut all), packet::sized(&mut all)) {
            if hello.attributes.len() < 16 {
                hello.attributes.push((text(key), text(value)));
            }
        }
    }
    Some(hello)
}

/// What `mysql_native_password` makes of a password.
pub(super) fn native(password: &str, salt: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    let salted = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[salt, twice.as_ref()].concat());
    once.as_ref().iter().zip(salted.as_ref()).map(|(a, b)| a ^ b).collect()
}

/// What `caching_sha2_password` makes of a password.
pub(super) fn caching(password: &str, salt: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = digest(&SHA256, password.as_bytes());
    let twice = digest(&SHA256, once.as_ref());
    let salted = digest(&SHA256, &[twice.as_ref(), salt].concat());
    once.as_ref().iter().zip(salted.as_ref()).map(|(a, b)| a ^ b).collect()
}

/// A password that the client sent under the server's key: the salt is laid over it.
pub(super) fn unmasked(mut bytes: Vec<u8>, salt: &[u8]) -> String {
    for (byte, mask) in bytes.iter_mut().zip(salt.iter().cycle()) {
        *byte ^= mask;
    }
    text(bytes.strip_suffix(&[0]).unwrap_or(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persona::Os;

    #[test]
    fn a_greeting_of_a_real_server() {
        // Taken from a MariaDB of Debian 12, but for its version, id and salt.
        let build = Build::of(Os::Debian12);
        let made = greeting(&build, 3, b"m5]UsdyU}5-![-hHou|2");
        let real = b"\n5.5.5-10.11.6-MariaDB-0+deb12u1\x00\x03\x00\x00\x00m5]UsdyU\x00\xfe\xf7-\x02\x00\xff\x81\x15\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x00}5-![-hHou|2\x00mysql_native_password\x00";
        assert_eq!(made, real);
    }

    #[test]
    fn masks_come_off() {
        let salt = [7; 20];
        let masked: Vec<u8> = b"secret\0".iter().zip(salt.iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(unmasked(masked, &salt), "secret");
    }

    #[test]
    fn hellos_of_any_bytes() {
        let build = Build::of(Os::Debian12);
        assert!(hello(&[0xff; 12], &build).is_none());
        let _ = hello(&[0xff; 64], &build);
    }
}
