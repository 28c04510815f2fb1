//! A product to test, in either mode, and how scenarios share it.

mod collector;
mod http;
mod process;
mod product;
mod stores;
mod watchdog;

pub use collector::{Kind, Span, spans};
pub use http::{Answer, Api, REQUEST_ID, form, head, plain, rows, send, try_send};
pub use process::{Process, binary, free_port};
pub use product::{Mode, PASSWORD, Product};
pub use stores::Stores;

use std::time::{Duration, Instant};

use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

/// A product that one scenario has for itself until it is done.
pub type Lease = MappedMutexGuard<'static, Product>;

static EMBEDDED: Mutex<Option<Product>> = Mutex::const_new(None);
static PROCESSES: Mutex<Option<Product>> = Mutex::const_new(None);

/// The one-process product.
pub async fn embedded() -> Lease {
    lease(EMBEDDED.lock().await, Mode::Embedded).await
}

/// The product of many processes, where there are stores for it.
pub async fn processes() -> Option<Lease> {
    if Stores::from_environment().is_none() {
        println!("skipped: the AEGIS_TEST_ variables name no stores (`cargo xtask test` brings them up)");
        return None;
    }
    Some(lease(PROCESSES.lock().await, Mode::Processes).await)
}

async fn lease(mut slot: MutexGuard<'static, Option<Product>>, mode: Mode) -> Lease {
    match slot.as_mut() {
        None => *slot = Some(Product::start(mode).await),
        // A scenario that failed half way may have left something down.
        Some(product) => product.ensure_running().await,
    }
    MutexGuard::map(slot, |slot| slot.as_mut().expect("just started"))
}

/// The first value that `probe` gives; it is asked again until `patience` ends.
pub async fn eventually<T, F>(what: &str, patience: Duration, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let since = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(why) => {
                assert!(since.elapsed() < patience, "{what}: not after {patience:?}: {why}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
