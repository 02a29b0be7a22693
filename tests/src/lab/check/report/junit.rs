//! JUnit's XML, which CI servers show as tests.

use std::fmt::Write;

use super::{Graded, Report, Status};

pub fn xml(report: &Report) -> String {
    let (failures, skipped) = (
        report.count(Status::Failed) + report.count(Status::NotDone),
        report.count(Status::CannotRun),
    );
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    _ = writeln!(
        xml,
        "<testsuites>\n<testsuite name=\"step{:02}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" \
         skipped=\"{skipped}\" time=\"{:.3}\">",
        report.step,
        report.checks.len(),
        report.seconds,
    );
    _ = writeln!(
        xml,
        "<properties><property name=\"seed\" value=\"{}\"/><property name=\"points\" value=\"{}\"/>\
         <property name=\"max_points\" value=\"{}\"/></properties>",
        report.seed, report.points, report.max_points
    );
    for check in &report.checks {
        case(&mut xml, check);
    }
    xml += "</testsuite>\n</testsuites>\n";
    xml
}

fn case(xml: &mut String, check: &Graded) {
    _ = write!(
        xml,
        "<testcase classname=\"step{:02}\" name=\"{}: {}\" time=\"{:.3}\">",
        check.step,
        escaped(&check.id),
        escaped(&check.title),
        check.seconds
    );
    let (element, kind) = match check.status {
        Status::Passed => ("", ""),
        Status::Failed => ("failure", "failed"),
        Status::NotDone => ("failure", "not done yet"),
        Status::CannotRun => ("skipped", "cannot be run here"),
    };
    if !element.is_empty() {
        _ = write!(
            xml,
            "<{element} message=\"{kind}\">{}</{element}>",
            escaped(&check.lines())
        );
    }
    xml.push_str("</testcase>\n");
}

/// A text as XML holds it; most control characters it cannot hold at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            '\u{fffe}' | '\u{ffff}' => escaped.push('·'),
            c if c.is_control() => escaped.push('·'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_in_a_text_is_taken_for_xml() {
        assert_eq!(
            super::escaped("<a b=\"&\">\x1b\0"),
            "&lt;a b=&quot;&amp;&quot;&gt;··"
        );
    }
}
