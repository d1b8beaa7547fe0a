//! `trestle completions`: what a shell needs to complete the command line.

use clap::{Command, ValueEnum};
use clap_complete::{generate, shells};

use super::{Exit, answer};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub fn completions(shell: Shell, mut command: Command) -> Exit {
    answer(&script(shell, &mut command));
    Exit::Fine
}

fn script(shell: Shell, command: &mut Command) -> String {
    let (name, mut script) = (command.get_name().to_owned(), Vec::new());
    match shell {
        Shell::Bash => generate(shells::Bash, command, name, &mut script),
        Shell::Zsh => generate(shells::Zsh, command, name, &mut script),
        Shell::Fish => generate(shells::Fish, command, name, &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_of_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut command = Command::new("trestle").subcommand(Command::new("check")).subcommand(Command::new("run"));
            let script = script(shell, &mut command);
            assert!(["trestle", "check", "run"].iter().all(|word| script.contains(word)), "{shell:?}: {script}");
        }
    }
}
