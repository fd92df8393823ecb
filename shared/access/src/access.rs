use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::Store;
use anabranch_runtime::{AccessMode, Settings};
use chrono::{DateTime, Utc};

use crate::error::{Denied, Error};
use crate::grant::Grant;
use crate::oidc::Oidc;
use crate::principal::Principal;
use crate::signed::{self, Claims, SiteKey, Use, expiry};
use crate::token::{ScramVerifier, TokenRecord, id_of, random};
use crate::tokens::Tokens;

/// How long another service may use what this one signed: long enough for clocks that differ.
const ASSERTION_LIFETIME: chrono::Duration = chrono::Duration::minutes(5);

/// Tells who asks. Cheap to clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct Access(Arc<Mode>);

#[derive(Debug)]
enum Mode {
    /// Everybody is [`Principal::anonymous_admin`].
    Open,
    Guarded(Box<Guard>),
}

#[derive(Debug)]
struct Guard {
    store: Store,
    tokens: Arc<Tokens>,
    key: SiteKey,
    oidc: Option<Oidc>,
    session: chrono::Duration,
}

/// A session that has begun.
#[derive(Clone, Debug)]
pub struct Session {
    pub principal: Principal,
    /// The value of the cookie.
    pub cookie: String,
    pub lifetime: Duration,
}

impl Access {
    /// Lets everybody in: for a platform that only its own machine can reach.
    pub fn open() -> Self {
        Self(Arc::new(Mode::Open))
    }

    /// As the settings say; reads the tokens of the site.
    ///
    /// # Errors
    /// When the store does not answer, or the identity provider's keys are in a file that cannot be read.
    pub async fn start(settings: &Settings, store: &Store) -> Result<Self, Error> {
        if settings.access.mode == AccessMode::Open {
            return Ok(Self::open());
        }
        let key = match &settings.access.service_key {
            Some(key) => SiteKey::of_setting(key.expose())?,
            None => SiteKey::of_store(store).await?,
        };
        let tokens = Arc::new(Tokens::new(store));
        tokens.refresh().await?;
        let oidc = settings.oidc.is_set().then(|| Oidc::new(&settings.oidc)).transpose()?;
        let session = chrono::Duration::from_std(*settings.access.session)
            .map_err(|_| Error::Settings("`access.session` is too long".to_owned()))?;
        Ok(Self(Arc::new(Mode::Guarded(Box::new(Guard {
            store: store.clone(),
            tokens,
            key,
            oidc,
            session,
        })))))
    }

    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        matches!(*self.0, Mode::Open)
    }

    /// Who bears this token: the text that stands behind `authorization: Bearer`.
    ///
    /// # Errors
    /// When nobody may come in with it.
    pub async fn authenticate_bearer(&self, token: &str) -> Result<Principal, Denied> {
        let Mode::Guarded(guard) = &*self.0 else {
            return Ok(Principal::anonymous_admin());
        };
        if id_of(token).is_some() {
            let record = guard.tokens.authenticate(token).await?;
            return Ok(guard.bearer(&record));
        }
        if token.starts_with(signed::PREFIX) {
            return Ok(guard.key.verify(token, Use::Service, guard.now())?.principal);
        }
        match &guard.oidc {
            Some(oidc) => {
                let known = oidc.authenticate(token).await?;
                Ok(known.principal.granted(Grant::until(&guard.tokens, known.expires)))
            }
            None => Err(Denied::Unknown),
        }
    }

    /// Who a user with a password is, as `authorization: Basic` and Flight SQL's handshake give them: the name or the id of
    /// a token, and the token.
    ///
    /// # Errors
    /// When the password is not a token of that name.
    pub async fn authenticate_password(&self, user: &str, password: &str) -> Result<Principal, Denied> {
        let Mode::Guarded(guard) = &*self.0 else {
            return Ok(Principal::anonymous_admin());
        };
        let record = guard.tokens.authenticate(password).await?;
        if record.name != user && record.id != user {
            return Err(Denied::Unknown);
        }
        Ok(guard.bearer(&record))
    }

    /// What checks the password of a SQL client's user, which is the name or the id of a token; the password is the token.
    /// `None` when everybody is let in. A user that does not exist gets a verifier too, that no password fits.
    pub fn scram_verifier(&self, user: &str) -> Option<ScramVerifier> {
        let Mode::Guarded(guard) = &*self.0 else {
            return None;
        };
        let record = guard.tokens.of_user(user);
        Some(record.map_or_else(
            || ScramVerifier::decoy(guard.key.hmac(), user),
            |record| record.scram().clone(),
        ))
    }

    /// Who a SQL client's user is, once its password was checked; `None` when there is no such token (any more).
    pub fn principal_of(&self, user: &str) -> Option<Principal> {
        match &*self.0 {
            Mode::Open => Some(Principal::anonymous_admin()),
            Mode::Guarded(guard) => guard.tokens.of_user(user).map(|record| guard.bearer(&record)),
        }
    }

    /// What a service shows another one, for itself or for somebody whose right it has checked; `None` when everybody is let
    /// in. Good for some minutes.
    pub fn assertion(&self, principal: &Principal) -> Option<String> {
        let Mode::Guarded(guard) = &*self.0 else {
            return None;
        };
        Some(guard.key.sign(&Claims {
            kind: Use::Service,
            principal: principal.clone(),
            token: None,
            session: None,
            expires: expiry(guard.now(), ASSERTION_LIFETIME),
        }))
    }

    /// Begins a session with a token: that of a console.
    ///
    /// # Errors
    /// When nobody may come in with it, or no session is needed.
    pub async fn begin_session(&self, token: &str) -> Result<Session, Denied> {
        let Mode::Guarded(guard) = &*self.0 else {
            return Err(Denied::Unknown);
        };
        let now = guard.now();
        let longest = expiry(now, guard.session);
        let (principal, token, expires) = if id_of(token).is_some() {
            let record = guard.tokens.authenticate(token).await?;
            let ends = record.expires_at.map_or(longest, |at| at.timestamp().min(longest));
            (record.principal(), Some(record.id.clone()), ends)
        } else {
            let oidc = guard.oidc.as_ref().ok_or(Denied::Unknown)?;
            let known = oidc.authenticate(token).await?;
            (known.principal, None, known.expires.min(longest))
        };
        let cookie = guard.key.sign(&Claims {
            kind: Use::Session,
            principal: principal.clone(),
            token,
            session: Some(session_id().map_err(|error| Denied::Unavailable {
                reason: error.to_string(),
            })?),
            expires,
        });
        let seconds = u64::try_from(expires - now.timestamp()).unwrap_or(0);
        Ok(Session {
            principal,
            cookie,
            lifetime: Duration::from_secs(seconds),
        })
    }

    /// Whose session this cookie is.
    ///
    /// # Errors
    /// When it has ended, or the token that it began with counts no more.
    pub fn authenticate_session(&self, cookie: &str) -> Result<Principal, Denied> {
        let Mode::Guarded(guard) = &*self.0 else {
            return Ok(Principal::anonymous_admin());
        };
        let claims = guard.key.verify(cookie, Use::Session, guard.now())?;
        let principal = match &claims.token {
            Some(id) => guard.tokens.living(id)?.principal(),
            None => claims.principal,
        };
        let grant = Grant::of_session(&guard.tokens, claims.session, claims.token, claims.expires);
        grant.check()?;
        Ok(principal.granted(grant))
    }

    /// Ends the session of this cookie, in all services. One that does not count has ended already.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub async fn end_session(&self, cookie: &str) -> Result<(), Error> {
        let Mode::Guarded(guard) = &*self.0 else {
            return Ok(());
        };
        let Ok(claims) = guard.key.verify(cookie, Use::Session, guard.now()) else {
            return Ok(());
        };
        let until = DateTime::from_timestamp(claims.expires, 0).unwrap_or_default();
        match claims.session {
            Some(session) => guard.tokens.end_session(&session, &claims.principal.name, until).await,
            None => Ok(()),
        }
    }

    /// Looks for new tokens and revocations now.
    ///
    /// # Errors
    /// When the store does not answer; what was known stays.
    pub async fn refresh(&self) -> Result<(), Error> {
        match &*self.0 {
            Mode::Open => Ok(()),
            Mode::Guarded(guard) => guard.tokens.refresh().await,
        }
    }
}

/// Names a session. Unlike a token's, its name has a hyphen.
fn session_id() -> Result<String, Error> {
    let digits: String = random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("session-{digits}"))
}

impl Guard {
    /// Who bears a token, for as long as it counts.
    fn bearer(&self, record: &TokenRecord) -> Principal {
        record.principal().granted(Grant::of_token(&self.tokens, &record.id))
    }

    fn now(&self) -> DateTime<Utc> {
        self.store.environment().now()
    }
}

#[cfg(test)]
mod tests;
