//! All the SQL of tests and their timelines.

pub mod campaign;
pub mod campaign_run;
pub mod campaign_test;
mod dialect;
pub mod list;
pub mod tally;
pub mod test;
pub mod timeline;

use futures::{Stream, TryStreamExt};

/// Rows of a page together hold at most about this many bytes of text, so that a page always fits into a message.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Reads rows until there are `limit` or their text grows past the size of a page, but one row at least. Answers
/// them and whether there are more.
async fn page_of<R>(
    mut rows: impl Stream<Item = sqlx::Result<R>> + Unpin,
    limit: usize,
    text_bytes: impl Fn(&R) -> usize,
) -> sqlx::Result<(Vec<R>, bool)> {
    let mut page = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        bytes += text_bytes(&row);
        if page.len() == limit || (bytes > PAGE_BYTES && !page.is_empty()) {
            return Ok((page, true));
        }
        page.push(row);
    }
    Ok((page, false))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_page_ends_at_its_limit_or_before_it_is_too_large() {
        let rows = |sizes: &[usize]| stream::iter(sizes.iter().map(|n| Ok(*n)).collect::<Vec<_>>());
        let page = async |sizes: &[usize], limit| page_of(rows(sizes), limit, |n| *n).await.unwrap();
        assert_eq!(page(&[1, 1], 2).await, (vec![1, 1], false));
        assert_eq!(page(&[1, 1, 1], 2).await, (vec![1, 1], true));
        assert_eq!(page(&[1, PAGE_BYTES, 1], 9).await, (vec![1], true));
        assert_eq!(page(&[PAGE_BYTES + 1], 9).await, (vec![PAGE_BYTES + 1], false));
        assert_eq!(page(&[], 9).await, (vec![], false));
    }
}
