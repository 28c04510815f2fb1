//! Archives made here: good ones, cut ones, hostile ones.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use super::*;

pub(super) const TEXT: &[u8] = b"{\"type\":\"bundle\"}";

pub(super) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

pub(super) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn entry(archive: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    // Not through `set_path`, which refuses the names that matter here.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append(&header, bytes).unwrap();
}

pub(super) fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        entry(&mut archive, name, tar::EntryType::Regular, bytes);
    }
    archive.into_inner().unwrap()
}

pub(super) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn wanted(name: &str) -> bool {
    name.ends_with("x.json")
}

pub(super) async fn document(folder: &Path, name: &str, bytes: &[u8]) -> Result<Document, FetchError> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    match fetch(&Location::file(path), &FetchLimits::default(), None, |_, _| {}).await? {
        Fetched::Document(document) => Ok(document),
        Fetched::NotModified => panic!("a file is always new"),
    }
}

fn content(document: &Document, limits: &FetchLimits) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = open(document, &wanted, limits).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[tokio::test]
async fn every_format_is_told_by_its_bytes_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let big = vec![b' '; 100_000];
    let members: &[(&str, &[u8])] =
        &[("repo/README.md", b"no"), ("repo/big", &big), ("./repo/x.json", TEXT), ("repo/y", b"no")];
    let mut old_tar = tar(members);
    for header in [0, 1024, 1024 + 512 + 100_352] {
        // An archive from before ustar: no mark, and the checksum without it.
        old_tar[header + 257..header + 265].fill(0);
        old_tar[header + 148..header + 156].fill(b' ');
        let sum: u32 = old_tar[header..header + 512].iter().map(|byte| u32::from(*byte)).sum();
        old_tar[header + 148..header + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    for (name, bytes, format) in [
        ("a.json", TEXT.to_vec(), Format::Plain),
        ("b.json", zst(TEXT), Format::Zstd),
        ("c", gz(TEXT), Format::Gzip),
        ("d.bin", [gz(&TEXT[..5]), gz(&TEXT[5..])].concat(), Format::Gzip),
        ("e.gz", zst(&tar(members)), Format::TarZstd),
        ("f", gz(&tar(members)), Format::TarGzip),
        ("g.json", tar(members), Format::Tar),
        ("h.tar", old_tar.clone(), Format::Tar),
        ("i.tgz", gz(&old_tar), Format::TarGzip),
        ("j", zip(members), Format::Zip),
    ] {
        let document = document(folder.path(), name, &bytes).await.unwrap();
        assert_eq!(document.format, format, "{name}");
        assert_eq!(document.size, bytes.len() as u64);
        assert_eq!(content(&document, &FetchLimits::default()).unwrap(), TEXT, "{name}");
    }
}

#[tokio::test]
async fn names_longer_than_a_tar_header_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/x.json", "folder-with-a-name/".repeat(20));
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(TEXT.len() as u64);
    archive.append_data(&mut header, &long, TEXT).unwrap();
    let packed = zst(&archive.into_inner().unwrap());
    let document = document(folder.path(), "long.tar.zst", &packed).await.unwrap();
    assert_eq!(content(&document, &FetchLimits::default()).unwrap(), TEXT);
}

#[tokio::test]
async fn bombs_stop_at_the_bound_and_exactly_the_bound_passes() {
    let folder = tempfile::tempdir().unwrap();
    let zeros = vec![0u8; 3_000_000];
    let limits = FetchLimits { max_unpacked_bytes: 2_000_000, ..FetchLimits::default() };
    let hidden = tar(&[("bomb", &zeros), ("x.json", TEXT)]);
    for (name, bytes) in [
        ("a.zst", zst(&zeros)),
        ("b.gz", gz(&zeros)),
        ("c.zip", zip(&[("x.json", &zeros)])),
        ("d.tar.gz", gz(&tar(&[("x.json", &zeros)]))),
        ("e.tar.zst", zst(&hidden)),
    ] {
        let document = document(folder.path(), name, &bytes).await.unwrap();
        let error = content(&document, &limits).unwrap_err();
        assert!(error.contains("larger than the 2000000 bytes"), "{name}: {error}");
    }
    let exact = FetchLimits { max_unpacked_bytes: 3_000_000, ..FetchLimits::default() };
    for (name, bytes) in [("f.zst", zst(&zeros)), ("g.zip", zip(&[("x.json", &zeros)]))] {
        let document = document(folder.path(), name, &bytes).await.unwrap();
        assert_eq!(content(&document, &exact).unwrap().len(), 3_000_000);
    }
}

#[tokio::test]
async fn a_name_without_end_is_not_kept_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    entry(&mut archive, "././@LongLink", tar::EntryType::GNULongName, &vec![b'a'; 5_000_000]);
    entry(&mut archive, "x.json", tar::EntryType::Regular, TEXT);
    let document = document(folder.path(), "a.tar.gz", &gz(&archive.into_inner().unwrap())).await.unwrap();
    let error = content(&document, &FetchLimits::default()).unwrap_err();
    assert!(error.contains("header is too long"), "{error}");
}

#[tokio::test]
async fn entries_that_lead_out_are_refused_and_links_ignored() {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in
        ["../x.json", "a/../../x.json", "/etc/x.json", "..\\x.json", "C:\\x.json"].into_iter().enumerate()
    {
        let members: &[(&str, &[u8])] = &[("ok", b"ok"), (name, TEXT)];
        for (end, bytes) in [("tar.gz", gz(&tar(members))), ("zip", zip(members))] {
            let document = document(folder.path(), &format!("{number}.{end}"), &bytes).await.unwrap();
            let error = content(&document, &FetchLimits::default()).unwrap_err();
            assert!(error.contains("leads out of the archive"), "{name}.{end}: {error}");
        }
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "first/x.json", "/etc/passwd").unwrap();
    entry(&mut archive, "second/x.json", tar::EntryType::Regular, TEXT);
    let linked = document(folder.path(), "links.tar", &archive.into_inner().unwrap()).await.unwrap();
    assert_eq!(content(&linked, &FetchLimits::default()).unwrap(), TEXT);

    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive.add_symlink("first/x.json", "/etc/passwd", options).unwrap();
    archive.start_file("second/x.json", options).unwrap();
    archive.write_all(TEXT).unwrap();
    let linked = document(folder.path(), "links.zip", &archive.finish().unwrap().into_inner()).await.unwrap();
    assert_eq!(content(&linked, &FetchLimits::default()).unwrap(), TEXT);
}

#[tokio::test]
async fn damaged_cut_and_foreign_archives_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let members: &[(&str, &[u8])] = &[("x.json", &noise)];
    let mut wrong_sum = zip(members);
    let at = wrong_sum.len() / 2;
    wrong_sum[at] ^= 0xFF;
    for (name, bytes) in [
        ("a.zst", half(zst(&noise))),
        ("b.gz", half(gz(&noise))),
        ("c.zip", half(zip(members))),
        ("d.tar", half(tar(members))),
        ("e.tar.zst", half(zst(&tar(members)))),
        ("f.zip", wrong_sum),
    ] {
        let document = document(folder.path(), name, &bytes).await.unwrap();
        assert!(content(&document, &FetchLimits::default()).is_err(), "{name}");
    }
    let other = document(folder.path(), "g.zip", &zip(&[("a.txt", b"a"), ("b.txt", b"b")])).await.unwrap();
    let error = content(&other, &FetchLimits::default()).unwrap_err();
    assert!(error.contains("2 entries such as a.txt, b.txt"), "{error}");
    let error = document(folder.path(), "h.xz", b"\xFD7zXZ\0....").await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::BadArchive);
    assert!(error.public().contains("xz, which is not supported"));
}

#[tokio::test]
async fn files_that_are_not_there_or_no_documents_are_told_as_typed() {
    let folder = tempfile::tempdir().unwrap();
    let limits = FetchLimits { max_download_bytes: 10, ..FetchLimits::default() };
    std::fs::write(folder.path().join("empty"), b"").unwrap();
    std::fs::write(folder.path().join("large"), b"0123456789a").unwrap();
    let folder_url = format!("file://{}", folder.path().display());
    for (url, kind, part) in [
        (
            "file:no/such.json".to_owned(),
            FetchErrorKind::NotFound,
            "file:no/such.json does not exist: check the data source's url",
        ),
        ("file:///dev/zero".to_owned(), FetchErrorKind::InvalidUrl, "is no file"),
        (format!("{folder_url}/empty"), FetchErrorKind::BadArchive, "is empty"),
        (format!("{folder_url}/large"), FetchErrorKind::TooLarge, "larger than the 10 bytes"),
    ] {
        let error = fetch(&Location::parse(&url).unwrap(), &limits, None, |_, _| {}).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{url}");
        assert!(error.public().contains(part), "{}", error.public());
    }
}
