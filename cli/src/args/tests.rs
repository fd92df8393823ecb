use clap::{Command as Clap, CommandFactory};

use super::*;

/// Every command below `command`, itself included, by the words that lead to it.
fn all(command: &Clap, path: &str) -> Vec<(String, Clap)> {
    let path = format!("{path}{} ", command.get_name());
    let below = command.get_subcommands().flat_map(|sub| all(sub, &path));
    let below: Vec<_> = below.collect();
    let mut found = vec![(path, command.clone())];
    found.extend(below);
    found
}

#[test]
fn every_command_argument_and_option_is_explained() {
    let commands = all(&Args::command(), "");
    assert!(commands.len() > 30, "{} commands", commands.len());
    let mut silent = Vec::new();
    for (path, command) in &commands {
        if command.get_about().is_none() {
            silent.push(path.clone());
        }
        let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
        silent.extend(arguments.map(|argument| format!("{path}{argument}")));
    }
    assert!(silent.is_empty(), "without a word of help: {silent:#?}");
}
