//! All files of a document: of archives made here, good and hostile, and of folders.

use std::path::Path;

use super::unpack_tests::{document, entry, gz, tar, zip, zst};
use super::*;

/// Keeps what ends with `.yml`, as a reader would.
#[derive(Default)]
struct Kept(Vec<(String, Vec<u8>)>);

impl Visitor for Kept {
    type Error = FetchError;

    fn wants(&self, path: &str) -> bool {
        path.ends_with(".yml")
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), FetchError> {
        self.0.push((path.to_owned(), bytes.to_owned()));
        Ok(())
    }
}

fn names(document: &Document, limits: &FetchLimits) -> Result<(Vec<String>, Visited), FetchError> {
    let mut kept = Kept::default();
    let visited = each(document, limits, &mut kept)?;
    Ok((kept.0.into_iter().map(|(path, _)| path).collect(), visited))
}

/// A tar archive as Git makes it.
fn git_tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let comment = "0123456789abcdef0123456789abcdef01234567";
    let said = format!("{} comment={comment}\n", comment.len() + 12);
    entry(&mut archive, "pax_global_header", tar::EntryType::XGlobalHeader, said.as_bytes());
    for (name, bytes) in members {
        entry(&mut archive, name, tar::EntryType::Regular, bytes);
    }
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn all_wanted_files_come_with_their_paths_and_the_revision() {
    let folder = tempfile::tempdir().unwrap();
    let members: &[(&str, &[u8])] =
        &[("repo/a.yml", b"a"), ("repo/big", &[7; 70_000]), ("./repo/sub/b.yml", b"bb"), ("repo/README.md", b"no")];
    for (name, bytes) in
        [("a.tar.gz", gz(&git_tar(members))), ("b.tar.zst", zst(&git_tar(members))), ("c.tar", git_tar(members))]
    {
        let document = document(folder.path(), name, &bytes).await.unwrap();
        let (names, visited) = names(&document, &FetchLimits::default()).unwrap();
        assert_eq!(names, ["repo/a.yml", "repo/sub/b.yml"]);
        assert_eq!(visited.files, 2);
        assert_eq!(visited.revision.as_deref(), Some("0123456789abcdef0123456789abcdef01234567"));
    }
    let document = document(folder.path(), "d.zip", &zip(members)).await.unwrap();
    let (names, visited) = names(&document, &FetchLimits::default()).unwrap();
    assert_eq!((names.len(), visited.files, visited.revision), (2, 2, None));
}

#[tokio::test]
async fn a_single_document_is_taken_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    for (file, bytes, name) in [("x.json", b"{}".to_vec(), "x.json"), ("x.json.zst", zst(b"{}"), "x.json")] {
        let document = document(folder.path(), file, &bytes).await.unwrap();
        assert_eq!(names(&document, &FetchLimits::default()).unwrap().0, [name]);
    }
}

#[tokio::test]
async fn a_folder_is_all_its_files_archives_too() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("rules");
    std::fs::create_dir_all(home.join("sub")).unwrap();
    std::fs::create_dir_all(home.join(".git")).unwrap();
    for (name, bytes) in [
        ("z.yml", b"z".to_vec()),
        ("sub/a.yml", b"a".to_vec()),
        ("sub/b.yml.gz", gz(b"b")),
        ("sub/c.tar.gz", gz(&tar(&[("c/1.yml", b"1"), ("c/2.txt", b"2")]))),
        ("notes.txt", b"no".to_vec()),
        ("empty.yml", Vec::new()),
        (".git/x.yml", b"no".to_vec()),
    ] {
        std::fs::write(home.join(name), bytes).unwrap();
    }
    let fetched = fetch(&Location::file(&home), &FetchLimits::default(), None, |_, _| {}).await.unwrap();
    let Fetched::Document(document) = fetched else { panic!("a folder is always new") };
    assert_eq!(document.format, Format::Folder);
    let mut kept = Kept::default();
    each(&document, &FetchLimits::default(), &mut kept).unwrap();
    let all: Vec<(&str, &[u8])> = kept.0.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    assert_eq!(all, [("sub/a.yml", &b"a"[..]), ("sub/b.yml", b"b"), ("c/1.yml", b"1"), ("z.yml", b"z")]);
    let text = |wanted: &str| {
        let mut bytes = Vec::new();
        let mut reader = open(&document, &|name| name.ends_with(wanted), &FetchLimits::default()).unwrap();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!((text("2.txt").as_str(), text("b.yml").as_str()), ("2", "b"));
}

async fn refused(folder: &Path, name: &str, bytes: &[u8], limits: &FetchLimits) -> FetchError {
    let document = document(folder, name, bytes).await.unwrap();
    names(&document, limits).unwrap_err()
}

#[tokio::test]
async fn hostile_and_damaged_archives_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out: &[(&str, &[u8])] = &[("a.yml", b"a"), ("../b.yml", b"b")];
    let big = vec![0; 3_000_000];
    let bomb: &[(&str, &[u8])] = &[("big", &big), ("a.yml", b"a")];
    let large: &[(&str, &[u8])] = &[("a.yml", &big)];
    let limits = FetchLimits { max_unpacked_bytes: 2_000_000, ..FetchLimits::default() };
    let small = FetchLimits { max_file_bytes: 1_000_000, ..FetchLimits::default() };
    for (end, pack) in [("tar.gz", (|m| gz(&tar(m))) as fn(&[(&str, &[u8])]) -> Vec<u8>), ("zip", |m| zip(m))] {
        let error = refused(folder.path(), &format!("out.{end}"), &pack(out), &limits).await;
        assert!(error.public().contains("leads out of the archive"), "{error}");
        let error = refused(folder.path(), &format!("large.{end}"), &pack(large), &small).await;
        assert_eq!(error.kind(), FetchErrorKind::TooLarge, "{error}");
        let error = refused(folder.path(), &format!("none.{end}"), &pack(&[("x", b"x")]), &limits).await;
        assert!(error.public().contains("1 entries such as x"), "{error}");
        let packed = pack(&[("a.yml", &(0..90_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>())]);
        refused(folder.path(), &format!("cut.{end}"), &packed[..packed.len() / 2], &limits).await;
    }
    let error = refused(folder.path(), "bomb.tar.gz", &gz(&tar(bomb)), &limits).await;
    assert_eq!(error.kind(), FetchErrorKind::TooLarge, "{error}");
    let error = refused(folder.path(), "bomb.zip", &zip(large), &limits).await;
    assert_eq!(error.kind(), FetchErrorKind::TooLarge, "{error}");

    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "first.yml", "/etc/passwd").unwrap();
    entry(&mut archive, "device.yml", tar::EntryType::Block, b"");
    entry(&mut archive, "second.yml", tar::EntryType::Regular, b"2");
    let linked = document(folder.path(), "links.tar", &archive.into_inner().unwrap()).await.unwrap();
    assert_eq!(names(&linked, &FetchLimits::default()).unwrap().0, ["second.yml"]);
}

#[cfg(unix)]
#[tokio::test]
async fn the_products_own_files_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("inside")).unwrap();
    std::fs::write(folder.path().join("a.yml"), b"a").unwrap();
    for own in ["own.yml", "inside/own.yml"] {
        std::fs::write(data.join(own), b"secret").unwrap();
    }
    std::os::unix::fs::symlink(data.join("own.yml"), folder.path().join("b.yml")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("a.yml"), folder.path().join("c.yml")).unwrap();
    std::os::unix::fs::symlink(&data, folder.path().join("other")).unwrap();
    let limits = FetchLimits { off_limits: vec![data.clone()], ..FetchLimits::default() };
    let read = async |path: &Path| {
        let location = Location::parse(&format!("file://{}", path.display())).unwrap();
        match fetch(&location, &limits, None, |_, _| {}).await? {
            Fetched::Document(document) => names(&document, &limits),
            Fetched::NotModified => panic!("a file is always read"),
        }
    };

    let (names, _) = read(folder.path()).await.unwrap();
    assert_eq!(names, ["a.yml", "c.yml"]);
    for own in ["data", "data/inside", "data/own.yml", "b.yml", "other/own.yml", "data/../data/own.yml"] {
        let error = read(&folder.path().join(own)).await.unwrap_err();
        assert_eq!(error.kind(), FetchErrorKind::InvalidUrl, "{own}");
        assert!(error.public().contains("keeps its own data"), "{own}: {error}");
    }
}
