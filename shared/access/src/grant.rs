use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::Denied;
use crate::tokens::Tokens;

/// Clocks are set: whoever waits for a time of day looks again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long somebody counts who was let in: until the token is revoked or expires, the session is ended, or the identity
/// provider's word is over. Whoever keeps something open for them for long (a stream, a connection) ends it then.
///
/// Cheap to clone. No part of who somebody is, so all of them are equal.
#[derive(Clone, Default)]
pub(crate) struct Grant(Option<Arc<Terms>>);

/// What a grant rests on.
struct Terms {
    tokens: Arc<Tokens>,
    /// The token that was shown, or that the session began with.
    token: Option<String>,
    session: Option<String>,
    /// Seconds since 1970.
    until: Option<i64>,
}

impl Grant {
    /// Of whoever bears a token.
    pub(crate) fn of_token(tokens: &Arc<Tokens>, id: &str) -> Self {
        Self::new(tokens, Some(id.to_owned()), None, None)
    }

    /// Of a session, and the token that it began with, if it did.
    pub(crate) fn of_session(tokens: &Arc<Tokens>, session: Option<String>, token: Option<String>, until: i64) -> Self {
        Self::new(tokens, token, session, Some(until))
    }

    /// On somebody else's word, which ends by itself: seconds since 1970.
    pub(crate) fn until(tokens: &Arc<Tokens>, until: i64) -> Self {
        Self::new(tokens, None, None, Some(until))
    }

    fn new(tokens: &Arc<Tokens>, token: Option<String>, session: Option<String>, until: Option<i64>) -> Self {
        Self(Some(Arc::new(Terms {
            tokens: Arc::clone(tokens),
            token,
            session,
            until,
        })))
    }

    /// Whether it still holds, and why not.
    pub(crate) fn check(&self) -> Result<(), Denied> {
        match &self.0 {
            Some(terms) => terms.check().map(drop),
            None => Ok(()),
        }
    }

    /// Waits until it holds no more. Cancel-safe.
    pub(crate) async fn ended(&self) -> Denied {
        let Some(terms) = &self.0 else {
            return std::future::pending().await;
        };
        let mut changes = terms.tokens.changes();
        loop {
            // What changes from here on is heard below.
            changes.borrow_and_update();
            let until = match terms.check() {
                Ok(until) => until,
                Err(denied) => return denied,
            };
            let environment = terms.tokens.environment();
            let left = until.map_or(LOOK_AGAIN, |until| {
                (until - environment.now()).to_std().unwrap_or_default().min(LOOK_AGAIN)
            });
            tokio::select! {
                // The sender lives as long as the tokens do, which are held here.
                _ = changes.changed() => {}
                () = environment.sleep(left) => {}
            }
        }
    }
}

impl Terms {
    /// When it ends at the latest, as far as is known.
    fn check(&self) -> Result<Option<DateTime<Utc>>, Denied> {
        if let Some(session) = &self.session
            && self.tokens.is_revoked(session)
        {
            return Err(Denied::Revoked);
        }
        let until = self.until.and_then(|until| DateTime::from_timestamp(until, 0));
        if until.is_some_and(|until| until <= self.tokens.environment().now()) {
            return Err(Denied::Expired);
        }
        let token = match &self.token {
            Some(id) => self.tokens.living(id)?.expires_at,
            None => None,
        };
        Ok(until.into_iter().chain(token).min())
    }
}

impl PartialEq for Grant {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Grant {}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Grant(..)"
        } else {
            "Grant(unlimited)"
        })
    }
}
