//! Checksums and base64.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    super::{
        run::{Io, Shell},
        vfs::name,
    },
    Args, inputs,
};

pub(super) async fn base64(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "w");
    let (inputs, status) = inputs(shell, "base64", &args.rest, io).await;
    for (_, bytes) in inputs {
        if args.has('d') || args.has('D') || args.long("decode") {
            let clean: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
            match STANDARD.decode(&clean) {
                Ok(bytes) => shell.emit(&io.out, &bytes),
                Err(_) => {
                    shell.complain(io, "base64: invalid input\n");
                    return 1;
                }
            }
        } else {
            let text = STANDARD.encode(&bytes);
            let width = values.first().and_then(|(_, value)| value.parse::<usize>().ok()).unwrap_or(76);
            let mut out = String::with_capacity(text.len() + text.len() / 60);
            for (n, c) in text.chars().enumerate() {
                if width > 0 && n > 0 && n % width == 0 {
                    out.push('\n');
                }
                out.push(c);
            }
            if width > 0 {
                out.push('\n');
            }
            shell.say(io, &out);
        }
    }
    status
}

pub(super) async fn sum(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let (inputs, status) = inputs(shell, &program, &args.rest, io).await;
    for (file, bytes) in inputs {
        let hex = match program.as_str() {
            "md5sum" | "md5" => crate::fingerprint::md5_hex(&bytes),
            "sha1sum" => hex::encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &bytes)),
            "sha512sum" => hex::encode(ring::digest::digest(&ring::digest::SHA512, &bytes)),
            _ => hex::encode(ring::digest::digest(&ring::digest::SHA256, &bytes)),
        };
        let text = match program.as_str() {
            "md5" | "sha256" if !file.is_empty() => format!("{} ({file}) = {hex}\n", program.to_uppercase()),
            "md5" | "sha256" => format!("{hex}\n"),
            _ => format!("{hex}  {}\n", if file.is_empty() { "-" } else { &file }),
        };
        shell.say(io, &text);
    }
    status
}
