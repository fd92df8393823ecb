//! Which earlier version of a view answers until the new one can: decisions only.

use std::collections::BTreeMap;

use anabranch_view::View;

use crate::Definitions;

/// Versions that answer while the newest ones are in no publication: one for each such view that had one before.
///
/// `earlier` are the definitions before `newest`, newest first; `published` maps names of the latest publication's views
/// to their hashes. A view that is published under an earlier definition is answered by that. One that was never
/// published was answered from realtime state alone, by the definition right before. A view that was dropped in between
/// begins anew.
pub fn shadows<'d>(
    newest: &Definitions,
    earlier: impl IntoIterator<Item = &'d Definitions> + Clone,
    published: &BTreeMap<String, String>,
) -> Vec<View> {
    let mut found = Vec::new();
    for view in newest.views.iter() {
        let published = published.get(view.name());
        if published == Some(view.hash()) {
            continue;
        }
        for definitions in earlier.clone() {
            let Some(former) = definitions.view(view.name()) else {
                break;
            };
            let answers = match published {
                Some(hash) => former.hash() == hash,
                None => former.hash() != view.hash(),
            };
            if answers {
                found.push(former.clone());
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
