//! What commands about one table share.

use anyhow::{Result, bail};

use crate::client::{Client, encoded};

/// The table that is meant: the one that was named, or the only one there is.
pub async fn table(client: &Client, named: Option<&str>) -> Result<String> {
    if let Some(name) = named {
        return Ok(encoded(name));
    }
    let status = client.get("/v1/status").await?;
    let mut tables: Vec<&String> = status["sources"]
        .as_object()
        .into_iter()
        .flat_map(|all| all.keys())
        .collect();
    match (tables.pop(), tables.is_empty()) {
        (Some(only), true) => Ok(encoded(only)),
        (None, _) => bail!("there is no table"),
        (Some(last), false) => {
            tables.push(last);
            let names: Vec<&str> = tables.iter().map(|name| name.as_str()).collect();
            bail!("say which table is meant with --table: {}", names.join(", "))
        }
    }
}

/// Who asks, for the record.
pub fn who() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    name.ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "command line".into())
}
