//! Parts of a file, by the same link.

use aegis_auth::Role;
use aegis_error::{Code, Failure};
use aegis_proto::evidence::v1::{ByteRange, DownloadEvidenceRequest};
use aegis_testkit::ctx;
use futures::future::join_all;

use super::{
    World, content, file, header,
    links::{download, request},
    nobody, worlds,
};

const SIZE: usize = 700_001;

fn from(first: i64, last: Option<i64>) -> ByteRange {
    ByteRange { first: Some(first), last, suffix: None }
}

fn suffix(count: i64) -> ByteRange {
    ByteRange { suffix: Some(count), ..ByteRange::default() }
}

async fn downloads(world: &World) -> usize {
    world.audit().await.into_iter().filter(|(_, record)| record.action == "download_evidence").count()
}

/// A world with one file, its bytes and a link to it.
async fn ready(world: &World) -> (Vec<u8>, DownloadEvidenceRequest) {
    let test = world.tests.add(&["draft"]);
    let bytes = content(SIZE);
    let kept = world.upload(ctx(Role::RedTech, "rita"), file(header(test, "a.bin"), &bytes)).await.unwrap();
    (bytes, request(&kept.download_url))
}

#[tokio::test]
async fn a_part_is_what_was_asked_for() {
    let size = SIZE as i64;
    for world in worlds().await {
        let (bytes, link) = ready(&world).await;
        for (range, part) in [
            (from(0, Some(0)), 0..1),
            (from(0, None), 0..SIZE),
            (from(0, Some(i64::MAX)), 0..SIZE),
            (from(300_000, Some(600_000)), 300_000..600_001),
            (from(size - 1, None), SIZE - 1..SIZE),
            (from(size - 1, Some(size + 7)), SIZE - 1..SIZE),
            (suffix(1), SIZE - 1..SIZE),
            (suffix(300_000), SIZE - 300_000..SIZE),
            (suffix(size + 1), 0..SIZE),
        ] {
            let asked = DownloadEvidenceRequest { range: Some(range), ..link.clone() };
            let (head, read) = download(&world, nobody(), asked).await.unwrap();
            assert_eq!(head.size_bytes, size);
            assert_eq!((head.offset, head.length), (part.start as i64, part.len() as i64), "{range:?}");
            assert!(read == bytes[part], "{range:?}");
        }
        // The same link at the same time.
        let pieces = (0..8).map(|n| {
            let range = Some(from(n * 90_000, Some(n * 90_000 + 89_999)));
            download(&world, nobody(), DownloadEvidenceRequest { range, ..link.clone() })
        });
        let whole: Vec<u8> = join_all(pieces).await.into_iter().flat_map(|piece| piece.unwrap().1).collect();
        assert!(whole == bytes);
        world.close().await;
    }
}

#[tokio::test]
async fn a_part_that_is_not_there_is_refused() {
    let size = SIZE as i64;
    for world in worlds().await {
        let (_, link) = ready(&world).await;
        for range in [from(size, None), from(size, Some(size + 5)), from(i64::MAX, None), suffix(0)] {
            let asked = DownloadEvidenceRequest { range: Some(range), ..link.clone() };
            let failure = download(&world, nobody(), asked).await.unwrap_err();
            assert_eq!((failure.code(), failure.get("size")), (Code::RangeNotSatisfiable, Some("700001")), "{range:?}");
        }
        for (range, field) in [
            (ByteRange::default(), "range"),
            (ByteRange { last: Some(5), ..ByteRange::default() }, "range"),
            (ByteRange { suffix: Some(5), ..from(0, None) }, "range"),
            (from(-1, None), "range.first"),
            (from(0, Some(-1)), "range.last"),
            (from(5, Some(4)), "range.last"),
            (suffix(-1), "range.suffix"),
        ] {
            let asked = DownloadEvidenceRequest { range: Some(range), ..link.clone() };
            let failure: Failure = download(&world, nobody(), asked).await.unwrap_err();
            assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, field), "{range:?}");
        }
        assert_eq!(downloads(&world).await, 0);
        world.close().await;
    }
}

#[tokio::test]
async fn a_download_in_parts_is_recorded_and_recorded_once() {
    for world in worlds().await {
        let (_, link) = ready(&world).await;
        let part = |range| DownloadEvidenceRequest { range: Some(range), ..link.clone() };
        // Nobody gets past the record by leaving the first byte out.
        download(&world, nobody(), part(from(1, None))).await.unwrap();
        assert_eq!(downloads(&world).await, 1);
        for n in 1..5 {
            download(&world, nobody(), part(from(n * 1000, Some(n * 1000 + 999)))).await.unwrap();
        }
        assert_eq!(downloads(&world).await, 1);
        download(&world, nobody(), part(from(0, Some(9)))).await.unwrap();
        download(&world, nobody(), link.clone()).await.unwrap();
        assert_eq!(downloads(&world).await, 3);
        world.close().await;
    }
}
