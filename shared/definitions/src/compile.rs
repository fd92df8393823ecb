use std::sync::Arc;

use anabranch_catalog::{Catalog, Diagnostic};
use anabranch_view::View;

/// A `views.sql`, compiled.
#[derive(Clone)]
pub struct Definitions {
    /// Of its entry in the definitions log; 0 when it is in none.
    pub number: u64,
    pub sql: Arc<str>,
    pub catalog: Arc<Catalog>,
    /// One per definition of the catalog, in its order.
    pub views: Arc<Vec<View>>,
}

impl Definitions {
    /// Compiles a text.
    ///
    /// # Errors
    /// Every problem, in file order.
    pub fn compile(number: u64, sql: &str) -> Result<Self, Vec<Diagnostic>> {
        let (catalog, views) = compile(sql)?;
        Ok(Self {
            number,
            sql: sql.into(),
            catalog: Arc::new(catalog),
            views: Arc::new(views),
        })
    }

    /// Definitions that are in no log, and are never followed by others.
    pub fn fixed(catalog: Arc<Catalog>, views: Arc<Vec<View>>) -> Self {
        Self {
            number: 0,
            sql: "".into(),
            catalog,
            views,
        }
    }

    /// The view of this name.
    pub fn view(&self, name: &str) -> Option<&View> {
        self.views.iter().find(|view| view.name() == name)
    }
}

/// Compiles a whole `views.sql`.
///
/// # Errors
/// Every problem, in file order.
pub fn compile(sql: &str) -> Result<(Catalog, Vec<View>), Vec<Diagnostic>> {
    let catalog = Catalog::parse(sql)?;
    let (mut views, mut found) = (Vec::new(), Vec::new());
    for definition in catalog.views.values() {
        match View::compile(definition) {
            Ok(view) => views.push(view),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    if found.is_empty() {
        Ok((catalog, views))
    } else {
        found.sort_by_key(|diagnostic| (diagnostic.place.line, diagnostic.place.column));
        Err(found)
    }
}
