//! Which version of a view answers while its definition changes: decisions only.

/// What is known of one view when it is decided which version answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Hash of the newest definition.
    pub(crate) newest: String,
    /// Hash of the version that answers now; `None` when nobody has asked for the view before.
    pub(crate) present: Option<String>,
    /// Hash of the version in the latest publication.
    pub(crate) published: Option<String>,
    /// Whether the newest version would lack nothing that the present one has.
    pub(crate) ready: bool,
}

/// Which version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Newest,
    /// Still the one that answers now, over the latest publication.
    Present,
    /// The latest publication no longer has the version that answers now, but the speed layer is not there yet: the
    /// publication before, and with it the present version, answers on.
    Wait,
}

pub(crate) fn judge(facts: &Facts) -> Verdict {
    match &facts.present {
        None => Verdict::Newest,
        Some(present) if *present == facts.newest || facts.ready => Verdict::Newest,
        Some(_) if facts.published.as_ref() == Some(&facts.newest) => Verdict::Wait,
        Some(_) => Verdict::Present,
    }
}

#[cfg(test)]
mod tests;
