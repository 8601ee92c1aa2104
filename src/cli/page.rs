//! What commands print, as blocks: written once, shown as text, Markdown or HTML.

use anstyle::{AnsiColor, Style};

/// How a piece of text is meant; colour follows from it, and never carries what the words do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Somebody is asked, or something is waited for.
    Warn,
    /// Not as it should be.
    Bad,
    /// Beside the point for most readers.
    Dim,
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

impl Cell {
    /// A toned cell.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), tone: Tone::Plain }
    }
}

/// One block of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading of that level, from 1.
    Heading(u8, String),
    /// Running text.
    Para(String),
    /// Points.
    List(Vec<String>),
    /// Rows under heads; no heads: names and values.
    Table(Vec<&'static str>, Vec<Vec<Cell>>),
}

/// As text for a terminal; `colour` only where it was asked for.
pub fn text(blocks: &[Block], colour: bool) -> String {
    let mut out = String::new();
    for (place, block) in blocks.iter().enumerate() {
        if place > 0 {
            out.push('\n');
        }
        match block {
            Block::Heading(_, words) => line(&mut out, &painted(&bare(words), Style::new().bold(), colour)),
            Block::Para(words) => line(&mut out, &printable(words)),
            Block::List(points) => points.iter().for_each(|point| line(&mut out, &format!("  - {}", printable(point)))),
            Block::Table(heads, rows) => table(&mut out, heads, rows, colour),
        }
    }
    out
}

fn table(out: &mut String, heads: &[&'static str], rows: &[Vec<Cell>], colour: bool) {
    let columns = rows.iter().map(Vec::len).chain([heads.len()]).max().unwrap_or(0);
    let rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.iter().map(|cell| Cell { text: bare(&cell.text), tone: cell.tone }).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        cells.chain(heads.get(column).map(|head| head.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut put = |cells: &mut dyn Iterator<Item = (&str, Style)>| {
        let (mut row, mut owed) = (String::new(), 0);
        for ((words, style), width) in cells.zip(&widths) {
            row.push_str(&" ".repeat(owed));
            row.push_str(&if words.is_empty() { String::new() } else { painted(words, style, colour) });
            owed = width - words.chars().count() + 2;
        }
        line(out, &row);
    };
    if !heads.is_empty() {
        put(&mut heads.iter().map(|head| (*head, Style::new().bold())));
    }
    for row in &rows {
        put(&mut row.iter().map(|cell| (cell.text.as_str(), style(cell.tone))));
    }
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Warn => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default(),
        Tone::Dim => Style::new().dimmed(),
    }
}

fn painted(words: &str, style: Style, colour: bool) -> String {
    if colour { format!("{style}{words}{style:#}") } else { words.to_owned() }
}

fn line(out: &mut String, words: &str) {
    out.push_str(words.trim_end());
    out.push('\n');
}

/// One line, and nothing that steers a terminal: texts come from answers of other machines too.
fn bare(words: &str) -> String {
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn printable(words: &str) -> String {
    words.lines().map(bare).collect::<Vec<_>>().join("\n")
}

/// As Markdown that tables survive in.
pub fn markdown(blocks: &[Block]) -> String {
    let mut out = String::new();
    for (place, block) in blocks.iter().enumerate() {
        if place > 0 {
            out.push('\n');
        }
        match block {
            Block::Heading(level, words) => line(&mut out, &format!("{} {}", "#".repeat(usize::from(*level)), md(words))),
            Block::Para(words) => line(&mut out, &words.lines().map(md).collect::<Vec<_>>().join("\n")),
            Block::List(points) => points.iter().for_each(|point| line(&mut out, &format!("- {}", md(point)))),
            Block::Table(heads, rows) => {
                let columns = rows.iter().map(Vec::len).chain([heads.len()]).max().unwrap_or(0);
                let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
                line(&mut out, &row((0..columns).map(|column| heads.get(column).copied().unwrap_or("").to_owned()).collect()));
                line(&mut out, &format!("|{}", "---|".repeat(columns)));
                for cells in rows {
                    line(&mut out, &row((0..columns).map(|column| cells.get(column).map(|cell| md(&cell.text)).unwrap_or_default()).collect()));
                }
            }
        }
    }
    out
}

/// Text within Markdown: one line, and none of its characters means anything. Backticks stay where they come in pairs.
fn md(words: &str) -> String {
    let words = bare(words);
    let ticks = words.matches('`').count().is_multiple_of(2);
    let (mut out, mut code) = (String::new(), false);
    for c in words.chars() {
        match c {
            '`' if ticks => {
                code = !code;
                out.push('`');
            }
            '|' => out.push_str("\\|"),
            '<' if !code => out.push_str("&lt;"),
            '&' if !code => out.push_str("&amp;"),
            '`' | '*' | '[' | ']' | '\\' if !code => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

const LOOK: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1c1e21;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}\
.good{color:#186a3b}.warn{color:#8a5a00}.bad{color:#a61b1b}.dim{color:#6b7280}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181b}th,td{border-color:#333}.good{color:#6fcf97}.warn{color:#e0b050}.bad{color:#f08080}.dim{color:#9aa0a6}}";

/// As one HTML document that loads nothing and runs nothing.
pub fn html(title: &str, blocks: &[Block]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{}</title><style>{LOOK}</style></head><body>\n",
        escaped(title)
    );
    for block in blocks {
        match block {
            Block::Heading(level, words) => line(&mut out, &format!("<h{level}>{}</h{level}>", escaped(words))),
            Block::Para(words) => line(&mut out, &format!("<p>{}</p>", escaped(words))),
            Block::List(points) => {
                let points: String = points.iter().fold(String::new(), |mut all, point| {
                    all.push_str(&format!("<li>{}</li>", escaped(point)));
                    all
                });
                line(&mut out, &format!("<ul>{points}</ul>"));
            }
            Block::Table(heads, rows) => html_table(&mut out, heads, rows),
        }
    }
    out.push_str("</body></html>\n");
    out
}

fn html_table(out: &mut String, heads: &[&'static str], rows: &[Vec<Cell>]) {
    line(out, "<table>");
    if !heads.is_empty() {
        let heads: String = heads.iter().map(|head| format!("<th>{}</th>", escaped(head))).collect();
        line(out, &format!("<tr>{heads}</tr>"));
    }
    for row in rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let tag = if heads.is_empty() && column == 0 { "th" } else { "td" };
            let class = match cell.tone {
                Tone::Plain => "",
                Tone::Good => " class=\"good\"",
                Tone::Warn => " class=\"warn\"",
                Tone::Bad => " class=\"bad\"",
                Tone::Dim => " class=\"dim\"",
            };
            out.push_str(&format!("<{tag}{class}>{}</{tag}>", escaped(&cell.text)));
        }
        out.push_str("</tr>\n");
    }
    line(out, "</table>");
}

fn escaped(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Block> {
        let bad = Cell::toned("shut|<b>", Tone::Bad);
        vec![
            Block::Heading(2, "Gates".into()),
            Block::Table(vec!["gate", "state"], vec![vec!["data-loss".into(), bad], vec!["mode".into(), Cell::toned("open\u{1b}[2J", Tone::Good)]]),
            Block::List(vec!["run `watchover adopt`, not *that*".into()]),
        ]
    }

    #[test]
    fn text_is_aligned_and_colourless_unless_asked() {
        insta::assert_snapshot!(text(&sample(), false), @"
        Gates

        gate       state
        data-loss  shut|<b>
        mode       open [2J

          - run `watchover adopt`, not *that*
        ");
        let coloured = text(&sample(), true);
        assert!(coloured.contains("\u{1b}[31mshut|<b>\u{1b}[0m") && !coloured.contains("[2J\u{1b}[2J"), "{coloured:?}");
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), text(&sample(), false));
    }

    #[test]
    fn markdown_takes_no_orders_from_what_it_quotes() {
        insta::assert_snapshot!(markdown(&sample()), @r"
        ## Gates

        | gate | state |
        |---|---|
        | data-loss | shut\|&lt;b> |
        | mode | open \[2J |

        - run `watchover adopt`, not \*that\*
        ");
    }

    #[test]
    fn html_takes_none_either() {
        let page = html("a <script>", &sample());
        assert!(page.contains("<title>a &lt;script&gt;</title>"), "{page}");
        assert!(page.contains("<td class=\"bad\">shut|&lt;b&gt;</td>"), "{page}");
        assert!(!page.contains("<script") && !page.contains('\u{1b}'));
    }
}
