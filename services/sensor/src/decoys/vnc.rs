//! VNC: the handshake of RFB 3.3 to 3.8 with VNC authentication, and the picture of a screen where one logs in.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use des::{
    Des,
    cipher::{BlockEncrypt, KeyInit},
};

use super::{Options, credentials::Credentials, lines::Buffered};
use crate::{
    persona::{Os, Persona},
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream, escaped},
};

/// What is tried most on VNC: it has no user names, and looks at eight signs.
const COMMON: [(&str, &str); 20] = [
    ("", "password"),
    ("", "123456"),
    ("", "12345678"),
    ("", "1234"),
    ("", "vnc"),
    ("", "vncvnc"),
    ("", "admin"),
    ("", "admin123"),
    ("", "passw0rd"),
    ("", "qwerty"),
    ("", "test"),
    ("", "test123"),
    ("", "secret"),
    ("", "111111"),
    ("", "000000"),
    ("", "changeme"),
    ("", "12345"),
    ("", "root"),
    ("", "letmein"),
    ("", "realvnc"),
];
/// A text that the client puts into the clipboard.
const CLIPBOARD: u32 = 64 * 1024;
/// Whole pictures of one connection.
const PICTURES: u32 = 50;
/// Messages of one connection.
const MESSAGES: u32 = 20_000;

struct Vnc {
    name: String,
    password: Credentials,
    screen: Screen,
    windows: bool,
}

/// VNC.
pub(crate) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let password = Credentials::new(persona, "vnc", options, &COMMON)?;
    let windows = matches!(persona.os, Os::WindowsServer2019 | Os::Windows10);
    let user =
        persona.pick("vnc user", &["anna", "martin", "user", "admin", "peter", "julia"]).copied().unwrap_or("user");
    let host = persona.hostname.as_str();
    let name = if windows { host.to_ascii_lowercase() } else { format!("{host}:0") };
    let screen = Screen::new(persona, user, windows);
    Ok(Server::Connections(Arc::new(Vnc { name, password, screen, windows })))
}

/// How pixels are to be sent.
#[derive(Clone, Copy, Debug)]
struct Format {
    bytes: usize,
    big: bool,
    max: [u16; 3],
    shift: [u8; 3],
}

impl Format {
    const OWN: Format = Format { bytes: 4, big: false, max: [255; 3], shift: [16, 8, 0] };

    fn parse(wire: &[u8]) -> Option<Format> {
        let byte = |at: usize| wire.get(at).copied();
        let bytes = match byte(0)? {
            8 => 1,
            16 => 2,
            32 => 4,
            _ => return None,
        };
        let wide = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
        let shift = [byte(10)?, byte(11)?, byte(12)?];
        if shift.iter().any(|shift| *shift > 31) {
            return None;
        }
        Some(Format { bytes, big: byte(2)? != 0, max: [wide(4)?, wide(6)?, wide(8)?], shift })
    }

    fn pixel(self, colour: [u8; 3], out: &mut Vec<u8>) {
        let mut value = 0u32;
        for ((part, max), shift) in colour.into_iter().zip(self.max).zip(self.shift) {
            value |= (u32::from(part) * u32::from(max) / 255).wrapping_shl(u32::from(shift));
        }
        let bytes = if self.big { value.to_be_bytes() } else { value.to_le_bytes() };
        let from = if self.big { 4 - self.bytes } else { 0 };
        out.extend_from_slice(bytes.get(from..from + self.bytes).unwrap_or_default());
    }
}

/// A rectangle of one colour.
#[derive(Clone, Copy, Debug)]
struct Area {
    x: u16,
    y: u16,
    width: u16,
    height: u16,
    colour: [u8; 3],
}

/// What is on the screen: a colour, and areas over it.
struct Screen {
    width: u16,
    height: u16,
    ground: [u8; 3],
    areas: Vec<Area>,
}

impl Screen {
    fn new(persona: &Persona, user: &str, windows: bool) -> Screen {
        let (width, height) =
            persona.pick("vnc size", &[(1024, 768), (1280, 800), (1280, 1024)]).copied().unwrap_or((1024, 768));
        let tone = u8::try_from(persona.number("vnc colour", 40)).unwrap_or(0);
        let ground = if windows { [0, 60 + tone, 120 + tone] } else { [44 + tone / 2, 20 + tone / 3, 42 + tone / 2] };
        let (middle, centre) = (width / 2, height / 2);
        let mut areas = Vec::new();
        let mut area = |x: u16, y: u16, width: u16, height: u16, colour: [u8; 3]| {
            areas.push(Area { x, y, width, height, colour });
        };
        if windows {
            // A head and shoulders, a field, a button.
            area(middle - 40, centre - 170, 80, 80, [210, 215, 220]);
            area(middle - 70, centre - 84, 140, 50, [210, 215, 220]);
            area(middle - 130, centre + 30, 230, 30, [255; 3]);
            area(middle + 100, centre + 30, 30, 30, [90, 110, 130]);
        } else {
            area(0, 0, width, 26, [30, 30, 30]);
            area(middle - 190, centre - 110, 380, 220, [60, 60, 60]);
            area(middle - 190, centre - 110, 380, 4, [233, 84, 32]);
            area(middle - 150, centre + 20, 300, 34, [245; 3]);
            area(middle + 60, centre + 68, 90, 28, [90, 90, 90]);
        }
        let mut screen = Screen { width, height, ground, areas };
        let (name, line) = if windows { (user, centre - 16) } else { (user, centre - 66) };
        screen.text(name, middle.saturating_sub(u16::try_from(name.len()).unwrap_or(0) * 12), line, 4, [240; 3]);
        let clock = persona.hostname.get(..persona.hostname.len().min(20)).unwrap_or_default().to_owned();
        screen.text(&clock, 12, if windows { height - 40 } else { 6 }, 2, [220; 3]);
        screen
    }

    /// Writes a text of letters, digits and a few signs.
    fn text(&mut self, text: &str, x: u16, y: u16, scale: u16, colour: [u8; 3]) {
        let mut left = x;
        for sign in text.chars() {
            let rows = glyph(sign.to_ascii_uppercase());
            for (row, bits) in (0u16..).zip(rows) {
                let mut column = 0u16;
                while column < 5 {
                    let on = |column: u16| bits & (0b10000 >> column) != 0;
                    let from = column;
                    while column < 5 && on(column) {
                        column += 1;
                    }
                    if column > from {
                        let (x, y) = (left + from * scale, y + row * scale);
                        self.areas.push(Area { x, y, width: (column - from) * scale, height: scale, colour });
                    }
                    column += 1;
                }
            }
            left += 6 * scale;
        }
        let (width, height) = (self.width, self.height);
        self.areas.retain(|area| area.x + area.width <= width && area.y + area.height <= height);
    }

    /// The colours of a row.
    fn row(&self, y: u16) -> Vec<[u8; 3]> {
        let mut row = vec![self.ground; usize::from(self.width)];
        for area in self.areas.iter().filter(|area| (area.y..area.y + area.height).contains(&y)) {
            let part = row.get_mut(usize::from(area.x)..usize::from(area.x + area.width));
            part.into_iter().flatten().for_each(|pixel| *pixel = area.colour);
        }
        row
    }

    /// The whole as rectangles of one colour: RFB's encoding RRE.
    fn rre(&self, format: Format) -> Vec<u8> {
        let mut out = self.head(2);
        out.extend_from_slice(&u32::try_from(self.areas.len()).unwrap_or(0).to_be_bytes());
        format.pixel(self.ground, &mut out);
        for area in &self.areas {
            format.pixel(area.colour, &mut out);
            for number in [area.x, area.y, area.width, area.height] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out
    }

    /// An update of one rectangle, the whole screen, in this encoding.
    fn head(&self, encoding: i32) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 1, 0, 0, 0, 0];
        out.extend_from_slice(&self.width.to_be_bytes());
        out.extend_from_slice(&self.height.to_be_bytes());
        out.extend_from_slice(&encoding.to_be_bytes());
        out
    }
}

/// Letters of five by seven dots.
fn glyph(sign: char) -> [u8; 7] {
    match sign {
        'A' => [14, 17, 17, 31, 17, 17, 17],
        'B' => [30, 17, 17, 30, 17, 17, 30],
        'C' => [14, 17, 16, 16, 16, 17, 14],
        'D' => [30, 17, 17, 17, 17, 17, 30],
        'E' => [31, 16, 16, 30, 16, 16, 31],
        'F' => [31, 16, 16, 30, 16, 16, 16],
        'G' => [14, 17, 16, 23, 17, 17, 15],
        'H' => [17, 17, 17, 31, 17, 17, 17],
        'I' => [14, 4, 4, 4, 4, 4, 14],
        'J' => [7, 2, 2, 2, 2, 18, 12],
        'K' => [17, 18, 20, 24, 20, 18, 17],
        'L' => [16, 16, 16, 16, 16, 16, 31],
        'M' => [17, 27, 21, 21, 17, 17, 17],
        'N' => [17, 25, 21, 19, 17, 17, 17],
        'O' => [14, 17, 17, 17, 17, 17, 14],
        'P' => [30, 17, 17, 30, 16, 16, 16],
        'Q' => [14, 17, 17, 17, 21, 18, 13],
        'R' => [30, 17, 17, 30, 20, 18, 17],
        'S' => [15, 16, 16, 14, 1, 1, 30],
        'T' => [31, 4, 4, 4, 4, 4, 4],
        'U' => [17, 17, 17, 17, 17, 17, 14],
        'V' => [17, 17, 17, 17, 17, 10, 4],
        'W' => [17, 17, 17, 21, 21, 27, 17],
        'X' => [17, 17, 10, 4, 10, 17, 17],
        'Y' => [17, 17, 10, 4, 4, 4, 4],
        'Z' => [31, 1, 2, 4, 8, 16, 31],
        '0' => [14, 17, 19, 21, 25, 17, 14],
        '1' => [4, 12, 4, 4, 4, 4, 14],
        '2' => [14, 17, 1, 6, 8, 16, 31],
        '3' => [31, 2, 4, 2, 1, 17, 14],
        '4' => [2, 6, 10, 18, 31, 2, 2],
        '5' => [31, 16, 30, 1, 1, 17, 14],
        '6' => [6, 8, 16, 30, 17, 17, 14],
        '7' => [31, 1, 2, 4, 8, 8, 8],
        '8' => [14, 17, 17, 14, 17, 17, 14],
        '9' => [14, 17, 17, 15, 1, 2, 12],
        '-' => [0, 0, 0, 31, 0, 0, 0],
        '.' => [0, 0, 0, 0, 0, 12, 12],
        _ => [0; 7],
    }
}

/// What a client answers that has this password: DES of the challenge, each byte of the key with its bits turned round.
fn answer(password: &str, challenge: &[u8; 16]) -> [u8; 16] {
    let mut key = [0; 8];
    for (place, byte) in key.iter_mut().zip(password.bytes()) {
        *place = byte.reverse_bits();
    }
    let cipher = Des::new((&key).into());
    let mut all = *challenge;
    for block in all.as_chunks_mut::<8>().0 {
        cipher.encrypt_block(block.into());
    }
    all
}

#[async_trait]
impl Protocol for Vnc {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()> {
        stream.limit_idle(Duration::from_secs(600));
        let mut conn = Buffered::new(stream);
        conn.write(b"RFB 003.008\n").await?;
        let version = conn.exactly(12).await?;
        let minor = match version.as_slice() {
            b"RFB 003.008\n" => 8,
            b"RFB 003.007\n" => 7,
            other if other.starts_with(b"RFB 003.") || other.starts_with(b"RFB 00") && other.ends_with(b"\n") => 3,
            other => {
                let seen = escaped(other, 64);
                session.emit(EventType::Scan, "no VNC client", &[("kind", "malformed"), ("detail", &seen)]);
                return Ok(());
            }
        };
        session.learn("client_banner", escaped(&version, 12).trim().to_owned());
        if minor >= 7 {
            conn.write(&[1, 2]).await?;
            if conn.exactly(1).await? != [2] {
                // The real one hangs up too.
                return Ok(());
            }
        } else {
            conn.write(&[0, 0, 0, 2]).await?;
        }
        if !self.login(&mut conn, &session, minor).await? {
            conn.close().await;
            return Ok(());
        }
        conn.exactly(1).await?;
        let mut hello = Vec::new();
        hello.extend_from_slice(&self.screen.width.to_be_bytes());
        hello.extend_from_slice(&self.screen.height.to_be_bytes());
        hello.extend_from_slice(&[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
        hello.extend_from_slice(&u32::try_from(self.name.len()).unwrap_or(0).to_be_bytes());
        hello.extend_from_slice(self.name.as_bytes());
        conn.write(&hello).await?;
        self.show(&mut conn, &session).await
    }
}

impl Vnc {
    async fn login(&self, conn: &mut Buffered<Stream>, session: &Session, minor: u8) -> io::Result<bool> {
        let challenge: [u8; 16] = rand::random();
        conn.write(&challenge).await?;
        let given = conn.exactly(16).await?;
        // The password itself never comes: it is found when it is one of those that are tried most.
        let known = self.password.pairs().iter().map(|(_, password)| password.as_str());
        let found = known
            .chain(COMMON.iter().map(|(_, password)| *password))
            .find(|password| answer(password, &challenge)[..] == given);
        let empty = answer("", &challenge)[..] == given;
        let accepted = self.password.any()
            || found.is_some_and(|password| self.password.pairs().iter().any(|(_, own)| own == password));
        let (event, word) =
            if accepted { (EventType::AuthSuccess, "succeeded") } else { (EventType::AuthFail, "failed") };
        let (challenge, given) = (hex::encode(challenge), hex::encode(given));
        let mut fields = vec![("method", "vnc"), ("challenge", challenge.as_str()), ("response", given.as_str())];
        if let Some(password) = found.or(empty.then_some("")) {
            fields.push(("password", password));
        }
        session.emit(event, format!("VNC login {word}"), &fields);
        let mut result = u32::from(!accepted).to_be_bytes().to_vec();
        if !accepted && minor >= 8 {
            let reason = if self.windows { "Authentication failed" } else { "password check failed!" };
            result.extend_from_slice(&u32::try_from(reason.len()).unwrap_or(0).to_be_bytes());
            result.extend_from_slice(reason.as_bytes());
        }
        conn.write(&result).await?;
        Ok(accepted)
    }

    /// Shows the screen and listens to what is typed.
    async fn show(&self, conn: &mut Buffered<Stream>, session: &Session) -> io::Result<()> {
        let (mut format, mut rre, mut typed) = (Format::OWN, false, String::new());
        // Whole pictures that were sent: they are large, and questions small.
        let mut shown = 0;
        for _ in 0..MESSAGES {
            if conn.unread().is_empty() && !conn.more().await? {
                break;
            }
            match conn.exactly(1).await?.first().copied() {
                Some(0) => {
                    let wire = conn.exactly(19).await?;
                    let Some(asked) = Format::parse(wire.get(3..).unwrap_or_default()) else {
                        break;
                    };
                    format = asked;
                }
                Some(2) => {
                    let head = conn.exactly(3).await?;
                    let count = head.get(1..).and_then(|count| count.try_into().ok()).map_or(0, u16::from_be_bytes);
                    // Each is read and looked at: the number is bounded by its two bytes.
                    for _ in 0..count {
                        rre |= conn.exactly(4).await? == 2i32.to_be_bytes();
                    }
                }
                Some(3) => {
                    let incremental = conn.exactly(9).await?.first() == Some(&1);
                    if (incremental && shown > 0) || shown >= PICTURES {
                        // Nothing changes on this screen.
                        continue;
                    }
                    shown += 1;
                    if rre {
                        conn.write(&self.screen.rre(format)).await?;
                    } else {
                        self.raw(conn, format).await?;
                    }
                }
                Some(4) => {
                    let key = conn.exactly(7).await?;
                    let down = key.first() == Some(&1);
                    let code = key.get(3..).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes);
                    if down {
                        keys(code, &mut typed, session);
                    }
                }
                Some(5) => {
                    conn.exactly(5).await?;
                }
                Some(6) => {
                    let head = conn.exactly(7).await?;
                    let length = head.get(3..).and_then(|length| length.try_into().ok()).map_or(0, u32::from_be_bytes);
                    if length > CLIPBOARD {
                        break;
                    }
                    let text = conn.exactly(usize::try_from(length).unwrap_or(0)).await?;
                    let text = escaped(&text, 2048);
                    session.emit(
                        EventType::Command,
                        "clipboard of the VNC client",
                        &[("command", &text), ("kind", "clipboard")],
                    );
                }
                _ => break,
            }
        }
        if !typed.is_empty() {
            session.emit(
                EventType::Command,
                format!("typed over VNC: {typed}"),
                &[("command", &typed), ("kind", "keys")],
            );
        }
        Ok(())
    }

    async fn raw(&self, conn: &mut Buffered<Stream>, format: Format) -> io::Result<()> {
        conn.write(&self.screen.head(0)).await?;
        for y in 0..self.screen.height {
            let mut row = Vec::with_capacity(usize::from(self.screen.width) * 4);
            self.screen.row(y).into_iter().for_each(|colour| format.pixel(colour, &mut row));
            conn.write(&row).await?;
        }
        Ok(())
    }
}

/// A key that was pressed: what is typed up to the enter key is told as one.
fn keys(code: u32, typed: &mut String, session: &Session) {
    match code {
        0xff0d | 0xff8d => {
            if !typed.is_empty() {
                session.emit(
                    EventType::Command,
                    format!("typed over VNC: {typed}"),
                    &[("command", typed), ("kind", "keys")],
                );
            }
            typed.clear();
        }
        0xff08 => {
            typed.pop();
        }
        0x20..=0x7e | 0xa0..=0xff if typed.len() < 1024 => typed.push(char::from_u32(code).unwrap_or(' ')),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn answers_are_those_of_clients() {
        // Bits turned round: a key of 0x80 bytes becomes one of 0x01, whose only bit is parity, so it is the empty one.
        let challenge = [7; 16];
        assert_eq!(answer("passwordmore", &challenge), answer("password", &challenge));
        assert_ne!(answer("password", &challenge), answer("passwort", &challenge));
    }

    #[test]
    fn the_two_encodings_show_the_same() {
        let screen = Screen::new(&testing::persona(Os::Debian12), "anna", false);
        let rows: Vec<Vec<[u8; 3]>> = (0..screen.height).map(|y| screen.row(y)).collect();
        assert_eq!(rows.len(), usize::from(screen.height));
        assert!(rows.iter().flatten().any(|pixel| *pixel == [240; 3]));
        let rre = screen.rre(Format::OWN);
        assert_eq!(rre.len(), 16 + 4 + 4 + screen.areas.len() * 12);
    }

    #[test]
    fn formats_are_checked() {
        assert!(Format::parse(&[24; 16]).is_none());
        assert!(Format::parse(&[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 99, 8, 0, 0, 0, 0]).is_none());
        let mut pixel = Vec::new();
        Format::parse(&[16, 16, 1, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0]).unwrap().pixel([255, 0, 0], &mut pixel);
        assert_eq!(pixel, [0xf8, 0]);
    }
}
