//! The definitions that a run goes through, and the fold that each version of a view stands for.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use anabranch_definitions::{Definitions, compile};
use anabranch_view::View;

use crate::random::Random;

/// A `views.sql`: the version of each view that it declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition {
    /// The table has a column that events carried all along. It is never taken away again.
    extra: bool,
    per_page: Option<Fold>,
    total: Option<Fold>,
    per_member: Option<Fold>,
}

/// What a version of a view computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    PerPage,
    PerPagePositive,
    /// Over all members but one.
    TotalBut(i64),
    /// Of the column that was added.
    TotalExtra,
    PerMember,
}

const PER_PAGE: [Fold; 2] = [Fold::PerPage, Fold::PerPagePositive];
const TOTAL: [Fold; 3] = [Fold::TotalBut(3), Fold::TotalBut(5), Fold::TotalExtra];

impl Fold {
    fn select(self) -> String {
        let per_page = "SELECT page, count(*) AS clicks, sum(n) AS n, count(DISTINCT member) AS members FROM clicks";
        match self {
            Self::PerPage => format!("{per_page} GROUP BY page"),
            Self::PerPagePositive => format!("{per_page} WHERE n > 0 GROUP BY page"),
            Self::TotalBut(member) => format!(
                "SELECT count(*) AS clicks, sum(n) AS n, max(n) AS largest FROM clicks WHERE member <> {member}"
            ),
            Self::TotalExtra => "SELECT count(*) AS clicks, sum(extra) AS n, max(n) AS largest FROM clicks".to_owned(),
            Self::PerMember => {
                "SELECT member, count(*) AS clicks, max(n) AS largest FROM clicks GROUP BY member".to_owned()
            }
        }
    }
}

impl Edition {
    /// What every run begins with.
    pub const FIRST: Self = Self {
        extra: false,
        per_page: Some(Fold::PerPage),
        total: Some(Fold::TotalBut(3)),
        per_member: None,
    };

    /// Its views, by name.
    pub fn views(self) -> BTreeMap<&'static str, Fold> {
        let views = [
            ("per_page", self.per_page),
            ("total", self.total),
            ("per_member", self.per_member),
        ];
        views
            .into_iter()
            .filter_map(|(name, fold)| Some((name, fold?)))
            .collect()
    }

    /// Its text, where events expire or not.
    pub fn sql(self, expires: bool) -> String {
        self.text("BIGINT", expires)
    }

    /// A text that no service may accept: what was landed would be misread.
    pub fn refused_sql(self, expires: bool) -> String {
        self.text("TEXT", expires)
    }

    fn text(self, of_member: &str, expires: bool) -> String {
        let extra = if self.extra { ", extra BIGINT" } else { "" };
        let retention = if expires { ", retention = '25 seconds'" } else { "" };
        let views = self.views().into_iter();
        let views = views.map(|(name, fold)| format!("CREATE MATERIALIZED VIEW {name} AS {};\n", fold.select()));
        format!(
            "CREATE TABLE clicks (page TEXT, n BIGINT, member {of_member}{extra})\n\
             WITH (connector = 'log', topic = 'clicks', format = 'json'{retention});\n{}",
            views.collect::<String>()
        )
    }

    /// Another one, of at least one view.
    pub fn changed(self, random: &mut Random) -> Self {
        loop {
            let mut next = self;
            for _ in 0..1 + random.index(2) {
                match random.index(6) {
                    0 => next.extra = true,
                    1 => next.per_page = random.chance(700).then(|| PER_PAGE[random.index(PER_PAGE.len())]),
                    2 => next.per_member = random.chance(600).then_some(Fold::PerMember),
                    3 => next.total = None,
                    _ => next.total = Some(TOTAL[random.index(TOTAL.len())]),
                }
            }
            next.extra |= next.total == Some(Fold::TotalExtra);
            if next != self && !next.views().is_empty() {
                return next;
            }
        }
    }

    /// In no log, and never followed by others.
    pub fn fixed(self, expires: bool) -> Arc<Definitions> {
        let (catalog, views) = compile(&self.sql(expires)).expect("the definitions are valid");
        Arc::new(Definitions::fixed(Arc::new(catalog), Arc::new(views)))
    }
}

/// A version of a view, as products of a run name it.
pub struct Version {
    pub view: View,
    pub fold: Fold,
}

/// All versions there are. Compiled once; only read from then on.
pub fn versions() -> &'static [Version] {
    static VERSIONS: OnceLock<Vec<Version>> = OnceLock::new();
    VERSIONS.get_or_init(|| {
        let pages = PER_PAGE.iter().map(|fold| (Some(*fold), None, None));
        let totals = TOTAL.iter().map(|fold| (None, Some(*fold), None));
        let editions = pages.chain(totals).chain([(None, None, Some(Fold::PerMember))]);
        let version = |(per_page, total, per_member): (Option<Fold>, Option<Fold>, Option<Fold>)| {
            let edition = Edition {
                extra: true,
                per_page,
                total,
                per_member,
            };
            let fold = per_page.or(total).or(per_member)?;
            let view = edition.fixed(false).views.first()?.clone();
            Some(Version { view, fold })
        };
        editions.filter_map(version).collect()
    })
}

/// The version of a view that has this hash.
pub fn version(name: &str, hash: &str) -> Option<&'static Version> {
    let mut versions = versions().iter();
    versions.find(|version| version.view.name() == name && version.view.hash() == hash)
}
