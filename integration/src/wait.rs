use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::time::sleep;

const POLL: Duration = Duration::from_millis(100);

/// Asks until the answer is `Ok(Some(..))`. `Ok(None)` and errors are asked again; after `limit` the last error is told.
pub async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        let error = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if begin.elapsed() > limit {
            match error {
                Some(error) => return Err(error.context(format!("not within {limit:?}: {what}"))),
                None => bail!("not within {limit:?}: {what}"),
            }
        }
        sleep(POLL).await;
    }
}
