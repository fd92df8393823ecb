//! `anabranch token`: works on the object store itself, so that the first token needs nobody's leave but the store's.

use std::process::ExitCode;

use anabranch_access::{Audit, AuditRecord, NewToken, Role, Tokens, ViewPatterns};
use anabranch_dataset::Store;
use anabranch_runtime::{AccessMode, HumanDuration, Settings};
use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, Utc};

use crate::args::{Config, Token, TokenCommand};
use crate::commands::tables::who;
use crate::output;

pub async fn run(args: Token) -> Result<ExitCode> {
    match args.command {
        TokenCommand::Create {
            role,
            views,
            expires,
            name,
            config,
        } => create(&config, role, views, expires, name).await?,
        TokenCommand::List { config } => list(&config).await?,
        TokenCommand::Revoke { token, config } => revoke(&config, &token).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings of a folder, and the store they name.
pub(super) fn store(config: &Config) -> Result<(Settings, Store)> {
    let settings = Settings::load(&config.config)?;
    let url = &settings.storage.url;
    let store = Store::open(url, &settings.storage.options).with_context(|| format!("storage.url = {url}"))?;
    Ok((settings, store))
}

async fn create(
    config: &Config,
    role: Role,
    views: Option<Vec<String>>,
    expires: Option<HumanDuration>,
    name: Option<String>,
) -> Result<()> {
    let (settings, store) = store(config)?;
    let views = match (views, role) {
        (Some(views), _) => ViewPatterns::new(views),
        (None, Role::Ingest) => ViewPatterns::none(),
        (None, Role::Read | Role::Admin) => ViewPatterns::all(),
    };
    let expires_at = expires
        .map(|after| Utc::now().checked_add_signed(chrono::Duration::from_std(*after).ok()?))
        .map(|at| at.context("the token would expire later than there are dates"))
        .transpose()?;
    let new = NewToken {
        name,
        role,
        views,
        expires_at,
        created_by: who(),
    };
    let (record, text) = Tokens::new(&store).create(new).await?;
    let what = format!("{} ({}, role {role}, views {})", record.name, record.id, record.views);
    note(&settings, &store, format!("token create {what}")).await;
    // The token alone goes to standard output, for `TOKEN=$(anabranch token create …)`.
    eprintln!("token {what}, {}", ends(record.expires_at));
    eprintln!("it is shown this once; it goes behind `authorization: Bearer`, or into ANABRANCH_TOKEN:");
    println!("{text}");
    if settings.access.mode == AccessMode::Open {
        eprintln!("access is open here: set `mode = \"tokens\"` in [access], and restart the services");
    }
    Ok(())
}

async fn list(config: &Config) -> Result<()> {
    let (_, store) = store(config)?;
    let tokens = Tokens::new(&store);
    tokens.refresh().await?;
    let mut table = output::table(["name", "id", "role", "views", "created", "by", "state"]);
    for token in tokens.list() {
        let record = &token.record;
        let state = match &token.revoked {
            Some(revoked) => format!("revoked {} by {}", day(revoked.at), revoked.by),
            None if record.has_expired(Utc::now()) => "expired".to_owned(),
            None => ends(record.expires_at),
        };
        table.add_row([
            record.name.clone(),
            record.id.clone(),
            record.role.to_string(),
            record.views.to_string(),
            day(record.created_at),
            record.created_by.clone(),
            state,
        ]);
    }
    println!("{table}");
    Ok(())
}

async fn revoke(config: &Config, which: &str) -> Result<()> {
    let (settings, store) = store(config)?;
    let record = Tokens::new(&store).revoke(which, &who()).await?;
    note(
        &settings,
        &store,
        format!("token revoke {} ({})", record.name, record.id),
    )
    .await;
    println!(
        "token {} ({}) lets nobody in any more, {} from now at the latest",
        record.name, record.id, settings.access.refresh
    );
    Ok(())
}

/// For the audit log.
async fn note(settings: &Settings, store: &Store, action: String) {
    let audit = Audit::new(Some(store), settings.access.audit_file.clone());
    let record = AuditRecord {
        at: Utc::now(),
        who: who(),
        role: Role::Admin.to_string(),
        from: "cli".to_owned(),
        service: "cli".to_owned(),
        action,
        outcome: "ok".to_owned(),
    };
    audit.record(&record).await;
}

fn ends(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "does not expire".to_owned(), |at| format!("expires {}", day(at)))
}

fn day(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
