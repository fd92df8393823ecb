//! The examples of the SQL reference, run as they stand there: definitions are applied, events are sent, and answers compared.

use std::collections::BTreeMap;

use anabranch_catalog::Catalog;
use anabranch_definitions::compile;
use anabranch_e2e::data::workspace;
use anabranch_e2e::{Dev, gate};
use serde_json::json;

/// A fenced block: its info string, the line it begins at, and its text.
struct Block {
    info: String,
    line: usize,
    text: String,
}

fn blocks() -> Vec<Block> {
    let page = std::fs::read_to_string(workspace().join("docs/sql.md")).expect("the SQL reference is there");
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (number, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => {
                open = Some(Block {
                    info: info.to_owned(),
                    line: number + 1,
                    text: String::new(),
                });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn of_kind<'b>(blocks: &'b [Block], info: &'b str) -> impl Iterator<Item = &'b Block> {
    blocks.iter().filter(move |block| block.info == info)
}

/// All definitions of the page, which belong together.
fn definitions(blocks: &[Block]) -> String {
    of_kind(blocks, "sql").map(|block| block.text.as_str()).collect()
}

/// `json TABLE`: events of a table.
fn events(blocks: &[Block]) -> impl Iterator<Item = (&str, &Block)> {
    blocks
        .iter()
        .filter_map(|block| Some((block.info.strip_prefix("json ")?, block)))
}

#[test]
fn definitions_of_the_sql_reference_compile_and_use_every_type_and_aggregate() {
    let blocks = blocks();
    let sql = definitions(&blocks);
    let (_, views): (Catalog, _) = compile(&sql).unwrap_or_else(|found| {
        let shown: Vec<_> = found
            .iter()
            .map(|problem| problem.render("docs/sql.md", &sql))
            .collect();
        panic!("{}", shown.join("\n"))
    });
    assert!(
        views.len() > 8,
        "only {} views: the page was not read properly",
        views.len()
    );
    for word in [
        "BOOLEAN",
        "INT",
        "BIGINT",
        "DOUBLE",
        "DECIMAL(",
        "TEXT",
        "BYTES",
        "DATE",
        "TIMESTAMP",
        "TEXT[]",
        "STRUCT<",
        "tumble(",
        "hop(",
        "count(*)",
        "count(DISTINCT",
        "sum(",
        "avg(",
        "min(",
        "max(",
        "stddev(",
        "stddev_pop(",
        "var(",
        "var_pop(",
        "covar_samp(",
        "covar_pop(",
        "corr(",
        "regr_slope(",
        "bool_and(",
        "bool_or(",
        "bit_and(",
        "bit_or(",
        "bit_xor(",
        "first_value(",
        "last_value(",
        "approx_distinct(",
        "approx_median(",
        "approx_percentile_cont(",
        "FILTER (WHERE",
        "HAVING",
    ] {
        assert!(sql.contains(word), "docs/sql.md has no example of {word}");
    }
}

#[test]
fn what_the_sql_reference_calls_refused_is_refused_with_what_it_says() {
    let blocks = blocks();
    let refused: Vec<&Block> = of_kind(&blocks, "sql refused").collect();
    assert!(refused.len() >= 3, "only {} refusals on the page", refused.len());
    for block in refused {
        let Err(found) = compile(&block.text) else {
            panic!("docs/sql.md:{} is not refused", block.line);
        };
        let shown: Vec<_> = found
            .iter()
            .map(|problem| problem.render("views.sql", &block.text))
            .collect();
        let shown = shown.join("\n");
        let says = block.text.lines().find_map(|line| line.strip_prefix("-- refused: "));
        let says = says.unwrap_or_else(|| panic!("docs/sql.md:{} does not say why", block.line));
        assert!(
            shown.contains(says),
            "docs/sql.md:{} is refused otherwise:\n{shown}",
            block.line
        );
    }
}

#[test]
fn queries_of_the_sql_reference_answer_what_stands_beside_them() {
    let _gate = gate::heavy();
    let blocks = blocks();
    let sql = definitions(&blocks);
    let dev = Dev::start(&sql, "[landing]\nmax_age = '200ms'");
    let mut through = BTreeMap::new();
    for (table, block) in events(&blocks) {
        through.insert(table, dev.ingest(table, block.text.clone().into_bytes()));
    }
    assert!(
        through.len() >= 2,
        "the page has too few events: it was not read properly"
    );
    let (_, views) = compile(&sql).expect("another test says what is wrong");
    for view in &views {
        if let Some(through) = through.get(view.source().name.as_str()) {
            dev.query_at_least(&format!("SELECT count(*) FROM {}", view.name()), through);
        }
    }
    let queries: Vec<(&Block, &Block)> = blocks
        .iter()
        .zip(blocks.iter().skip(1))
        .filter(|(query, answer)| query.info == "sql query" && answer.info == "csv")
        .collect();
    assert!(
        queries.len() >= 8,
        "only {} queries with answers on the page",
        queries.len()
    );
    for (query, answer) in queries {
        let body = json!({"sql": query.text, "require": "exact", "timeout": "60s"});
        let reply = dev.http().sql_as(&body, "text/csv");
        assert_eq!(reply.status, 200, "docs/sql.md:{}: {}", query.line, reply.text());
        let got = reply.text().replace("\r\n", "\n");
        assert_eq!(
            got.trim_end(),
            answer.text.trim_end(),
            "the answer of docs/sql.md:{}",
            query.line
        );
    }
}
