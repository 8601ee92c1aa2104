//! Completions and man pages, made of the very commands.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::out::{self, complain};
use super::{Cli, exit};

/// `completions`.
pub(super) fn completions(shell: Shell) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "watchover", &mut text);
    print(&text)
}

/// `man`: the main page, or all pages into a directory.
pub(super) fn man(dir: Option<&Path>) -> u8 {
    let Some(dir) = dir else {
        let mut text = Vec::new();
        return match clap_mangen::Man::new(Cli::command()).render(&mut text) {
            Ok(()) => print(&text),
            Err(cause) => failed("the page cannot be made", &cause),
        };
    };
    let made = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    match made {
        Ok(()) => exit::DONE,
        Err(cause) => failed(&format!("write the pages to {}", dir.display()), &cause),
    }
}

fn print(text: &[u8]) -> u8 {
    out::raw(text);
    exit::DONE
}

fn failed(what: &str, cause: &std::io::Error) -> u8 {
    complain!("watchover: {what}: {cause}");
    exit::FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_and_its_completion() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(man(Some(dir.path())), exit::DONE);
        let mut shell = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "watchover", &mut shell);
        let shell = String::from_utf8(shell).unwrap();
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let page = std::fs::read_to_string(dir.path().join(format!("watchover-{name}.1"))).unwrap();
            assert!(page.contains("NAME") && page.contains(&name.replace('-', "\\-")), "{name}: {page}");
            assert!(shell.contains(&format!("watchover,{name})")), "{name}");
        }
        assert!(std::fs::read_to_string(dir.path().join("watchover.1")).unwrap().contains("EXIT CODES"));
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        assert_eq!(man(Some(Path::new("/dev/null/pages"))), exit::FAILED);
    }
}
