use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Denied;
use crate::grant::Grant;

/// What a principal may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Query the views that its patterns name.
    Read,
    /// Send events; and query the views that its patterns name, if there are any.
    Ingest,
    /// Everything.
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Ingest => "ingest",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "read" => Ok(Self::Read),
            "ingest" => Ok(Self::Ingest),
            "admin" => Ok(Self::Admin),
            other => Err(format!("`{other}` is no role; roles are read, ingest and admin")),
        }
    }
}

/// Which views a principal may see: names, in which `*` stands for any characters. Empty patterns match no view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewPatterns(Arc<[String]>);

impl ViewPatterns {
    /// Every view.
    pub fn all() -> Self {
        Self(Arc::new(["*".to_owned()]))
    }

    /// No view.
    pub fn none() -> Self {
        Self::default()
    }

    /// From names and patterns; blank ones are left out.
    pub fn new<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Self {
        Self(
            patterns
                .into_iter()
                .map(|pattern| pattern.as_ref().trim().to_owned())
                .filter(|pattern| !pattern.is_empty())
                .collect(),
        )
    }

    /// Whether a view of this name is among them.
    pub fn matches(&self, view: &str) -> bool {
        self.0.iter().any(|pattern| glob(pattern.as_bytes(), view.as_bytes()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every view is among them, those that are declared later too.
    pub fn is_all(&self) -> bool {
        self.0.iter().any(|pattern| pattern.bytes().all(|byte| byte == b'*'))
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for ViewPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Whether `text` is what `pattern` describes. Takes time in proportion to the product of their lengths at most.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and how much of the text it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Nobody in particular. No token can be called so: `<` and `>` stand in no name.
const ANONYMOUS: &str = "<anonymous>";

/// Who asks: the bearer of a token, a person known to an identity provider, another service, or anybody where no access
/// control is set up. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// For logs and the audit trail; never a secret.
    pub name: Arc<str>,
    pub role: Role,
    /// Views it may see; of no account for [`Role::Admin`], which sees all of them.
    pub views: ViewPatterns,
    #[serde(skip)]
    grant: Grant,
}

impl Principal {
    /// Somebody who counts without end.
    pub fn new(name: &str, role: Role, views: ViewPatterns) -> Self {
        Self {
            name: name.into(),
            role,
            views,
            grant: Grant::default(),
        }
    }

    /// The same, for as long as this holds.
    pub(crate) fn granted(self, grant: Grant) -> Self {
        Self { grant, ..self }
    }

    /// Whether they still count, who were let in.
    ///
    /// # Errors
    /// Why they do not: as of the last look at what was revoked, `[access] refresh` ago at most.
    pub fn standing(&self) -> Result<(), Denied> {
        self.grant.check()
    }

    /// Waits until they count no more, which is for ever where everybody is let in. What is kept open for somebody (a stream, a
    /// connection) ends with this. Cancel-safe.
    pub async fn ended(&self) -> Denied {
        self.grant.ended().await
    }

    /// Whoever reaches an open, loopback-only platform.
    pub fn anonymous_admin() -> Self {
        Self::new(ANONYMOUS, Role::Admin, ViewPatterns::all())
    }

    /// Another service of the same site.
    pub fn service(id: &str) -> Self {
        Self::new(&format!("service:{id}"), Role::Admin, ViewPatterns::all())
    }

    /// Who is written down to have asked: somebody who was let in by name, whatever they say; elsewhere what they say.
    pub fn recorded<'n>(&'n self, said: Option<&'n str>) -> &'n str {
        match &*self.name {
            ANONYMOUS => said.unwrap_or("http"),
            name => name,
        }
    }

    /// Whether it may see this view. A view that it may not see does not exist for it.
    pub fn may_read(&self, view: &str) -> bool {
        self.role == Role::Admin || self.views.matches(view)
    }

    /// Whether it may see every view, and with them what tells of all views: runs, publications, metrics.
    pub fn may_read_all(&self) -> bool {
        self.role == Role::Admin || self.views.is_all()
    }

    /// Whether there may be a view that it can see.
    pub fn may_read_any(&self) -> bool {
        self.role == Role::Admin || !self.views.is_empty()
    }

    pub fn may_ingest(&self) -> bool {
        matches!(self.role, Role::Admin | Role::Ingest)
    }

    pub fn may_administer(&self) -> bool {
        self.role == Role::Admin
    }
}

#[cfg(test)]
mod tests;
