//! The token with which this service calls registries, exchanged for its key and renewed in good time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::settings::KeySource;

/// A token that was had.
pub(crate) struct Token {
    pub(crate) text: String,
    /// Who issues tokens of this installation, as they say it.
    pub(crate) issuer: String,
    /// From when on another is asked for.
    renew_at: Instant,
    /// From when on it is worth nothing.
    ends_at: Instant,
}

/// What is had of it.
pub(crate) struct ServiceToken {
    pub(crate) key: KeySource,
    /// Locked for a look.
    current: RwLock<Option<Arc<Token>>>,
    /// Held by who exchanges the key.
    exchanging: Mutex<()>,
}

impl Token {
    /// One that was asked for at `asked_at` and lives for `lives` from then on at least.
    pub(crate) fn new(text: String, issuer: String, lives: Duration, asked_at: Instant) -> Self {
        Self { text, issuer, renew_at: asked_at + lives * 2 / 3, ends_at: asked_at + lives }
    }
}

impl ServiceToken {
    pub(crate) fn new(key: KeySource) -> Self {
        Self { key, current: RwLock::new(None), exchanging: Mutex::new(()) }
    }

    /// The token, after `exchange` where there is none, it is old, or it is `refused`. One that is merely old is used on
    /// where the exchange fails.
    pub(crate) async fn get<E>(
        &self,
        refused: Option<&Arc<Token>>,
        exchange: impl Future<Output = Result<Token, E>>,
    ) -> Result<Arc<Token>, E> {
        let is_refused = |token: &Arc<Token>| refused.is_some_and(|refused| Arc::ptr_eq(refused, token));
        let good = |now: Instant| self.current().filter(|token| !is_refused(token) && now < token.renew_at);
        if let Some(token) = good(Instant::now()) {
            return Ok(token);
        }
        let _exchanging = self.exchanging.lock().await;
        if let Some(token) = good(Instant::now()) {
            return Ok(token);
        }
        match exchange.await {
            Ok(token) => {
                let token = Arc::new(token);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(error) => {
                let lives_on = |token: &Arc<Token>| !is_refused(token) && Instant::now() < token.ends_at;
                self.current().filter(lives_on).ok_or(error)
            }
        }
    }

    /// Who issues tokens, once that is known.
    pub(crate) fn issuer(&self) -> Option<String> {
        self.current().map(|token| token.issuer.clone())
    }

    /// The one that is there, good or not.
    pub(crate) fn current(&self) -> Option<Arc<Token>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LIVES: Duration = Duration::from_secs(900);

    fn holder() -> ServiceToken {
        ServiceToken::new(KeySource::Text(String::new().into()))
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_exchanged_once_renewed_in_good_time_and_used_on_where_that_fails() {
        let (holder, exchanges) = (holder(), AtomicUsize::new(0));
        let exchange = async || {
            let number = exchanges.fetch_add(1, Ordering::Relaxed);
            Ok::<_, &str>(Token::new(number.to_string(), "souk:x".to_owned(), LIVES, Instant::now()))
        };
        assert_eq!(holder.issuer(), None);
        let first = holder.get(None, exchange()).await.map(|token| token.text.clone());
        assert_eq!((first.as_deref(), holder.issuer().as_deref()), (Ok("0"), Some("souk:x")));
        tokio::time::advance(LIVES / 2).await;
        assert_eq!(holder.get(None, exchange()).await.unwrap().text, "0");
        tokio::time::advance(LIVES / 4).await;
        // Old and not over.
        let failed = holder.get(None, async { Err("away") }).await;
        assert_eq!(failed.unwrap().text, "0");
        assert_eq!(holder.get(None, exchange()).await.unwrap().text, "1");
        tokio::time::advance(LIVES).await;
        assert_eq!(holder.get(None, async { Err("away") }).await.err(), Some("away"), "over");
    }

    #[tokio::test]
    async fn one_that_is_refused_is_exchanged_anew_by_whoever_notices_first() {
        let (holder, exchanges) = (holder(), AtomicUsize::new(0));
        let exchange = async || {
            let number = exchanges.fetch_add(1, Ordering::Relaxed);
            Ok::<_, &str>(Token::new(number.to_string(), String::new(), LIVES, Instant::now()))
        };
        let refused = holder.get(None, exchange()).await.unwrap();
        let renewed = tokio::join!(holder.get(Some(&refused), exchange()), holder.get(Some(&refused), exchange()));
        assert_eq!((renewed.0.unwrap().text.as_str(), renewed.1.unwrap().text.as_str()), ("1", "1"));
        assert_eq!(exchanges.load(Ordering::Relaxed), 2);
        assert_eq!(holder.get(Some(&refused), async { Err("away") }).await.unwrap().text, "1");
    }
}
