//! Columns, as docker and runc align them.

/// What stands between a column's widest cell and the next column.
const GAP: usize = 3;

/// Aligns lines whose cells are separated by tabs: each column is as wide as
/// its widest cell and three blanks, and at least `least`. As with Go's
/// text/tabwriter, by which docker's columns are made, a column ends where a
/// line does not have it. Blanks at a line's end are left away.
#[must_use]
pub fn columns(text: &str, least: usize) -> String {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut lines = vec![String::new(); rows.len()];
    let widest = rows.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..widest {
        let mut width = 0;
        for (n, row) in rows.iter().enumerate() {
            // The last cell of a line belongs to no column.
            let ends_here = row.len() <= column + 1;
            if ends_here {
                lines[n].push_str(row.get(column).unwrap_or(&""));
                width = 0;
                continue;
            }
            if width == 0 {
                let block = rows[n..].iter().take_while(|row| row.len() > column + 1);
                let cells = block.map(|row| row[column].chars().count() + GAP);
                width = cells.max().unwrap_or(0).max(least);
            }
            lines[n].push_str(&format!("{:width$}", row[column]));
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        assert_eq!(
            columns("ID\tNAME\tSIZE\n1\tab…\t7\n234567890123\t\t8\n", 0),
            "ID             NAME   SIZE\n1              ab…    7\n234567890123          8"
        );
        assert_eq!(columns("TAG\tID\na\tb", 10), "TAG       ID\na         b");
    }

    #[test]
    fn a_line_without_tabs_parts_the_blocks_above_and_below_it() {
        assert_eq!(
            columns("a\tb\nno cells here\nlonger\tc\t", 0),
            "a   b\nno cells here\nlonger   c"
        );
        assert_eq!(columns("", 10), "");
    }
}
