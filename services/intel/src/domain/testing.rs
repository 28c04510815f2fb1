//! The publishers' own releases, for tests that hold figures against them.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::knowledge::{Knowledge, Reader};

/// The files of a `.tar.zst`, or the one of a `.zst`, by path; `None`, with a word, where the test data are absent.
pub(crate) fn files(path: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let folder = match std::env::var_os("AEGIS_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    };
    let Ok(file) = File::open(folder.join(path)) else {
        println!("SKIPPED: {path} is not in the test data folder (AEGIS_TEST_DATA)");
        return None;
    };
    let mut stream = zstd::Decoder::new(file).unwrap();
    let mut files = Vec::new();
    if !path.ends_with(".tar.zst") {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".zst");
        files.push((name.to_owned(), bytes));
        return Some(files);
    }
    for entry in tar::Archive::new(stream).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.push((entry.path().unwrap().to_string_lossy().into_owned(), bytes));
        }
    }
    Some(files)
}

/// What a reader makes of the files that it wants.
pub(crate) fn read(mut reader: Box<dyn Reader>, files: &[(String, Vec<u8>)]) -> Knowledge {
    for (path, bytes) in files {
        if reader.wants(path) {
            reader.file(path, bytes).unwrap();
        }
    }
    reader.finish().unwrap()
}
