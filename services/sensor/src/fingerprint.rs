//! What gives a client away: JA3 of a TLS hello, HASSH of an SSH key exchange.

use md5::{Digest, Md5};

/// Type of a handshake record.
const HANDSHAKE: u8 = 22;
/// Type of a client's hello.
const CLIENT_HELLO: u8 = 1;
/// Longest hello that is read, bytes.
const MAX_HELLO: usize = 16 * 1024;
/// Most names that are told of one list.
const MAX_NAMES: usize = 16;

/// MD5 in hex: what JA3 and HASSH are written as.
pub fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

/// The client's hello of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// MD5 of `ja3_text`.
    pub ja3: String,
    /// Version, ciphers, extensions, groups and point formats, as JA3 writes them.
    pub ja3_text: String,
    /// The name that it asks for.
    pub sni: Option<String>,
    /// The protocols that it offers.
    pub alpn: Vec<String>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// A hello that is whole.
    Hello(Box<ClientHello>),
    /// It may become one.
    Incomplete,
    /// No TLS.
    Other,
}

/// Reads the first bytes of a connection, from the first on (as [`crate::session::Stream::peek`] gives them).
pub fn first_bytes(bytes: &[u8]) -> FirstBytes {
    let mut message = Vec::new();
    let mut rest = Reader(bytes);
    loop {
        let wanted = match (message.get(..4), message.first()) {
            (_, Some(kind)) if *kind != CLIENT_HELLO => return FirstBytes::Other,
            (Some(head), _) => 4 + number(head.get(1..4).unwrap_or_default()),
            _ => 4,
        };
        if wanted > MAX_HELLO {
            return FirstBytes::Other;
        }
        if message.len() >= wanted && wanted > 4 {
            let hello = message.get(4..wanted).and_then(parse);
            return hello.map_or(FirstBytes::Other, |hello| FirstBytes::Hello(Box::new(hello)));
        }
        let Some(kind) = rest.u8() else { return FirstBytes::Incomplete };
        if kind != HANDSHAKE {
            return FirstBytes::Other;
        }
        match rest.u8() {
            None => return FirstBytes::Incomplete,
            Some(3) => {}
            Some(_) => return FirstBytes::Other,
        }
        let Some(length) = rest.take(1).and_then(|_| rest.u16()) else { return FirstBytes::Incomplete };
        let length = usize::from(length);
        if length == 0 || length > MAX_HELLO {
            return FirstBytes::Other;
        }
        match rest.take(length) {
            Some(part) => message.extend_from_slice(part),
            None => return FirstBytes::Incomplete,
        }
    }
}

fn parse(hello: &[u8]) -> Option<ClientHello> {
    let mut hello = Reader(hello);
    let version = hello.u16()?;
    hello.take(32)?;
    let length = hello.u8()?;
    hello.take(length.into())?;
    let ciphers = hello.list16()?.numbers();
    let length = hello.u8()?;
    hello.take(length.into())?;
    let mut found = ClientHello::default();
    let (mut kinds, mut groups, mut formats) = (Vec::new(), Vec::new(), Vec::new());
    // Old clients have none.
    let mut extensions = hello.list16().unwrap_or(Reader(&[]));
    while let Some(kind) = extensions.u16() {
        let mut body = extensions.list16()?;
        kinds.push(kind);
        match kind {
            0 => found.sni = server_name(body),
            10 => groups = body.list16().map(Reader::numbers).unwrap_or_default(),
            11 => {
                let length = body.u8().unwrap_or(0);
                formats = body.take(length.into()).unwrap_or_default().iter().copied().map(u16::from).collect();
            }
            16 => found.alpn = protocols(body),
            _ => {}
        }
    }
    found.ja3_text =
        format!("{version},{},{},{},{}", joined(&ciphers), joined(&kinds), joined(&groups), joined(&formats));
    found.ja3 = md5_hex(found.ja3_text.as_bytes());
    Some(found)
}

fn server_name(mut body: Reader<'_>) -> Option<String> {
    let mut names = body.list16()?;
    let kind = names.u8()?;
    let length = names.u16()?;
    let name = names.take(length.into())?;
    (kind == 0).then(|| crate::session::escaped(name, 255))
}

fn protocols(mut body: Reader<'_>) -> Vec<String> {
    let mut list = body.list16().unwrap_or(Reader(&[]));
    let mut names = Vec::new();
    while let Some(length) = list.u8()
        && let Some(name) = list.take(length.into())
        && names.len() < MAX_NAMES
    {
        names.push(crate::session::escaped(name, 255));
    }
    names
}

/// Numbers as JA3 has them: without those that clients put in at random (GREASE).
fn joined(numbers: &[u16]) -> String {
    let grease = |number: &u16| number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff;
    let texts: Vec<String> = numbers.iter().filter(|number| !grease(number)).map(u16::to_string).collect();
    texts.join("-")
}

/// HASSH: the algorithms that a client of SSH offers (each list as on the wire, with commas), and their MD5.
pub fn hassh(kex: &str, ciphers: &str, macs: &str, compressions: &str) -> (String, String) {
    let algorithms = format!("{kex};{ciphers};{macs};{compressions}");
    let hash = md5_hex(algorithms.as_bytes());
    (algorithms, hash)
}

/// HASSH of the payload of a client's SSH_MSG_KEXINIT: the algorithms and their MD5.
pub fn hassh_of(payload: &[u8]) -> Option<(String, String)> {
    let lists = offered(payload)?;
    // Key exchange, host keys, then ciphers, MACs and compressions, each first for what the client sends.
    Some(hassh(lists.first()?, lists.get(2)?, lists.get(4)?, lists.get(6)?))
}

/// The host keys that a client takes, in its order, by the payload of its SSH_MSG_KEXINIT.
pub fn host_keys_of(payload: &[u8]) -> Option<Vec<String>> {
    Some(offered(payload)?.get(1)?.split(',').map(str::to_owned).collect())
}

/// The eight lists of algorithms of an SSH_MSG_KEXINIT.
fn offered(payload: &[u8]) -> Option<Vec<String>> {
    let mut payload = Reader(payload);
    if payload.u8()? != 20 {
        return None;
    }
    payload.take(16)?;
    let mut lists = Vec::with_capacity(8);
    for _ in 0..8 {
        let length = number(payload.take(4)?);
        lists.push(crate::session::escaped(payload.take(length)?, MAX_HELLO));
    }
    Some(lists)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number: usize, byte| (number << 8) | usize::from(*byte))
}

/// What is left to be read.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A list with its length before it, two bytes.
    fn list16(&mut self) -> Option<Reader<'a>> {
        let length = self.u16()?;
        self.take(length.into()).map(Reader)
    }

    fn numbers(mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.u16()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hello with GREASE in every list, cut into two records.
    fn hello() -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 6, 0x1a, 0x1a, 0x13, 0x01, 0xc0, 0x2f]);
        body.extend([1, 0]);
        let mut extensions = Vec::new();
        for (kind, bytes) in [
            (0x2a2a_u16, vec![]),
            (0, vec![0, 9, 0, 0, 6, b'a', b'.', b't', b'e', b's', b't']),
            (10, vec![0, 4, 0x3a, 0x3a, 0, 29]),
            (11, vec![1, 0]),
            (16, vec![0, 3, 2, b'h', b'2']),
        ] {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
            extensions.extend(bytes);
        }
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        let mut records = Vec::new();
        for part in message.chunks(60) {
            records.extend([22, 3, 1, 0, u8::try_from(part.len()).unwrap()]);
            records.extend(part);
        }
        records
    }

    #[test]
    fn a_hello_is_read_whole_or_not_at_all() {
        let bytes = hello();
        let FirstBytes::Hello(found) = first_bytes(&bytes) else { panic!("no hello") };
        assert_eq!(found.ja3_text, "771,4865-49199,0-10-11-16,29,0");
        assert_eq!(found.ja3, md5_hex(found.ja3_text.as_bytes()));
        assert_eq!(found.sni.as_deref(), Some("a.test"));
        assert_eq!(found.alpn, ["h2"]);
        for cut in 0..bytes.len() {
            assert_eq!(first_bytes(&bytes[..cut]), FirstBytes::Incomplete, "{cut}");
        }
        assert_eq!(first_bytes(b"GET / HTTP/1.0\r\n"), FirstBytes::Other);
    }

    #[test]
    fn a_key_exchange_is_hashed_as_the_public_tools_do() {
        let lists = ["curve25519-sha256", "ssh-ed25519", "aes256-ctr", "a", "hmac-sha1", "b", "none", "c"];
        let mut payload = vec![20];
        payload.extend([0; 16]);
        for list in lists {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.bytes());
        }
        let (algorithms, hash) = hassh_of(&payload).unwrap();
        assert_eq!(algorithms, "curve25519-sha256;aes256-ctr;hmac-sha1;none");
        assert_eq!(hash, md5_hex(algorithms.as_bytes()));
        assert_eq!(host_keys_of(&payload).unwrap(), ["ssh-ed25519"]);
        assert_eq!(md5_hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..200) {
            let _ = first_bytes(&bytes);
            let _ = hassh_of(&bytes);
            let mut broken = hello();
            for (place, byte) in broken.iter_mut().skip(at).zip(&bytes) {
                *place = *byte;
            }
            let _ = first_bytes(&broken);
        }
    }
}
