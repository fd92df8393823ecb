use anabranch_dataset::RunKind;

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Computes all views and publishes them.
    Run,
    /// Publishes an earlier publication again.
    Rollback { to: Target },
    /// Computes views in full and compares them with what is served; all views if none is named.
    Verify { views: Vec<String> },
}

impl Task {
    /// The kind of record that it leaves.
    pub(crate) fn kind(&self) -> RunKind {
        match self {
            Self::Run => RunKind::Run,
            Self::Rollback { .. } => RunKind::Rollback,
            Self::Verify { .. } => RunKind::Verify,
        }
    }
}

/// What to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The publication before the one that is served.
    Previous,
    Publication(u64),
    Run(String),
}

impl Target {
    /// Reads a publication number or a run id.
    pub(crate) fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(number) => Self::Publication(number),
            Err(_) => Self::Run(text.to_owned()),
        }
    }
}
