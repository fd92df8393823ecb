//! Every link in a page leads somewhere: to a file of the repository, and to a heading that is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anabranch_e2e::data::workspace;

fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(workspace().join("docs")).expect("docs/ is there");
    let mut pages: Vec<PathBuf> = docs
        .map(|entry| entry.expect("docs/ can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| workspace().join(name)));
    pages.sort();
    pages
}

/// Text without code, where brackets mean nothing.
fn without_code(text: &str) -> String {
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let kept: Vec<&str> = line.split('`').step_by(2).collect();
            prose.push_str(&kept.join("_"));
            prose.push('\n');
        }
    }
    prose
}

/// Targets of `[text](target)` and `![text](target)`.
fn targets(text: &str) -> Vec<String> {
    let prose = without_code(text);
    let after = prose.split("](").skip(1);
    after
        .filter_map(|rest| Some(rest.split_once(')')?.0.split_whitespace().next()?.to_owned()))
        .collect()
}

/// Anchors of a page's headings, as mdBook and GitHub make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let heading = line.trim_start_matches('#');
        if fenced || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let heading = heading.trim().to_lowercase();
        let anchor = heading.chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            letter if letter.is_alphanumeric() || matches!(letter, '-' | '_') => Some(letter),
            _ => None,
        });
        anchors.insert(anchor.collect());
    }
    anchors
}

fn broken(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).expect("a page is text");
    let folder = page.parent().expect("a page lies in a folder");
    let leads = |target: &String| {
        if target.contains("://") || target.starts_with("mailto:") {
            return true;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if file.is_empty() {
            page.to_path_buf()
        } else {
            folder.join(file)
        };
        if anchor.is_empty() || path.extension().is_none_or(|extension| extension != "md") {
            return path.exists();
        }
        std::fs::read_to_string(&path).is_ok_and(|text| anchors(&text).contains(anchor))
    };
    targets(&text).into_iter().filter(|target| !leads(target)).collect()
}

#[test]
fn every_link_in_the_docs_resolves() {
    let pages = pages();
    let links: usize = pages
        .iter()
        .map(|page| targets(&std::fs::read_to_string(page).expect("a page is text")).len())
        .sum();
    assert!(
        pages.len() > 10 && links > 60,
        "{links} links in {} pages: not read properly",
        pages.len()
    );
    let broken: Vec<(PathBuf, Vec<String>)> = pages
        .into_iter()
        .map(|page| (page.clone(), broken(&page)))
        .filter(|(_, broken)| !broken.is_empty())
        .collect();
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

#[test]
fn links_of_the_book_stay_in_the_book() {
    let docs = workspace().join("docs");
    for page in pages().into_iter().filter(|page| page.parent() == Some(docs.as_path())) {
        let text = std::fs::read_to_string(&page).expect("a page is text");
        let out: Vec<_> = targets(&text)
            .into_iter()
            .filter(|target| target.starts_with("../"))
            .collect();
        // Built with mdBook, they would lead nowhere.
        assert!(out.is_empty(), "{} links to {out:?}", page.display());
    }
}

#[test]
fn every_page_is_in_the_summary() {
    let docs = workspace().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).expect("the book has a summary");
    let listed: BTreeSet<String> = targets(&summary).into_iter().collect();
    let there: BTreeSet<String> = pages()
        .iter()
        .filter(|page| page.parent() == Some(docs.as_path()) && !page.ends_with("SUMMARY.md"))
        .filter_map(|page| Some(page.file_name()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn links_and_headings_are_read_as_markdown_has_them() {
    let text = "# A `b` c\n[x](y.md#z) and `[no](code)`\n```text\n[not](this)\n# nor this\n```\n![p](q.svg \"title\")\n## Rows, again\n";
    assert_eq!(targets(text), ["y.md#z", "q.svg"]);
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["a-b-c", "rows-again"]);
}
