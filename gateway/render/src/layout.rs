//! Where each technique stands: tactics side by side, a long one in several columns, sub-techniques under their parents.

use std::collections::{HashMap, HashSet};

use crate::{
    model::{Matrix, Technique},
    text,
};

/// Sizes, in units of the picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Of a column, with the gap after it.
    pub column: f32,
    /// Of the text.
    pub font: f32,
    /// Sub-techniques as small boxes with their number, in place of a row with the name of each.
    pub boxes: bool,
}

impl Sizes {
    /// Between columns.
    pub const GAP: f32 = 5.0;
    /// Between rows.
    pub const ROW_GAP: f32 = 2.0;
    /// How far sub-techniques are moved in.
    pub const INDENT: f32 = 10.0;

    /// Small boxes in a row: their mark and three digits are as wide as three letters.
    pub fn boxes_in_row(&self) -> usize {
        (((self.cell() - Sizes::INDENT / 2.0) / (self.font * 3.15)) as usize).clamp(1, 8)
    }

    /// Of a name; a narrow column takes a third.
    pub fn lines(&self) -> usize {
        if self.column < self.font * 15.0 { 3 } else { 2 }
    }

    /// Of a cell.
    pub fn cell(&self) -> f32 {
        self.column - Sizes::GAP
    }

    /// Of the ground of a mark.
    pub fn mark(&self) -> f32 {
        self.font * 1.55
    }

    /// Whether a technique's name is bold: where the names of its sub-techniques stand below.
    pub fn bold(&self, sub: bool) -> bool {
        !sub && !self.boxes
    }

    pub fn line(&self) -> f32 {
        self.font * 1.16
    }

    /// Height of a row with so many lines.
    pub fn row(&self, lines: usize) -> f32 {
        self.line() * lines.max(1) as f32 + self.font * 0.42
    }

    pub fn box_height(&self) -> f32 {
        self.font * 1.3
    }

    /// Height of what stands above the columns.
    pub fn head(&self) -> f32 {
        self.font * 3.9
    }
}

/// A row of a column.
#[derive(Debug)]
pub(crate) enum Row<'a> {
    /// A technique with the lines of its name.
    Cell { technique: &'a Technique, sub: bool, lines: Vec<String> },
    /// Sub-techniques as small boxes.
    Boxes(Vec<&'a Technique>),
}

impl Row<'_> {
    pub fn height(&self, sizes: &Sizes) -> f32 {
        match self {
            Row::Cell { lines, .. } => sizes.row(lines.len()),
            Row::Boxes(_) => sizes.box_height(),
        }
    }
}

/// A part of a tactic that fits one below the other.
#[derive(Debug)]
pub(crate) struct Column<'a> {
    /// Index of the tactic.
    pub tactic: usize,
    pub rows: Vec<Row<'a>>,
    /// Not the first of its tactic.
    pub continued: bool,
}

/// The rows of every tactic, in one column each.
pub(crate) fn rows<'a>(matrix: &'a Matrix, sizes: &Sizes) -> Vec<Vec<Row<'a>>> {
    let mut of_tactic: HashMap<&str, Vec<&Technique>> = HashMap::new();
    for technique in &matrix.techniques {
        for tactic in &technique.tactics {
            of_tactic.entry(tactic).or_default().push(technique);
        }
    }
    let tactics = matrix.tactics.iter();
    tactics.map(|tactic| column(of_tactic.remove(tactic.short_name.as_str()).unwrap_or_default(), sizes)).collect()
}

/// How many rows there are at least, whatever the sizes: those of techniques that are no sub-techniques.
pub(crate) fn fewest_rows(matrix: &Matrix) -> usize {
    matrix
        .techniques
        .iter()
        .filter(|technique| technique.parent.is_none())
        .map(|technique| technique.tactics.len())
        .sum()
}

fn column<'a>(techniques: Vec<&'a Technique>, sizes: &Sizes) -> Vec<Row<'a>> {
    let ids: HashSet<&str> = techniques.iter().map(|technique| technique.id.as_str()).collect();
    let mut tops = Vec::new();
    let mut subs: HashMap<&str, Vec<&Technique>> = HashMap::new();
    for technique in techniques {
        match technique.parent.as_deref().filter(|parent| ids.contains(parent)) {
            // No technique is its own parent.
            Some(parent) if parent != technique.id => subs.entry(parent).or_default().push(technique),
            _ => tops.push(technique),
        }
    }
    tops.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    let mut rows = Vec::new();
    for top in tops {
        rows.push(cell(top, false, sizes));
        let mut below = subs.remove(top.id.as_str()).unwrap_or_default();
        below.sort_by(|a, b| a.id.cmp(&b.id));
        if sizes.boxes {
            rows.extend(below.chunks(sizes.boxes_in_row()).map(|chunk| Row::Boxes(chunk.to_vec())));
        } else {
            rows.extend(below.into_iter().map(|sub| cell(sub, true, sizes)));
        }
    }
    rows
}

fn cell<'a>(technique: &'a Technique, sub: bool, sizes: &Sizes) -> Row<'a> {
    let indent = if sub { Sizes::INDENT } else { 0.0 };
    let wide = sizes.cell() - indent - sizes.mark() - sizes.font * 0.8;
    // A bold text is wider.
    let font = if sizes.bold(sub) { sizes.font * 1.07 } else { sizes.font };
    let lines = text::lines(&label(technique, sub), font, wide, sizes.lines());
    Row::Cell { technique, sub, lines }
}

/// `T1059 Command and Scripting Interpreter`; of what stands below its parent `.001 PowerShell`.
fn label(technique: &Technique, sub: bool) -> String {
    let id = if sub { number(technique) } else { &technique.id };
    format!("{id} {}", technique.name)
}

/// `.001` of `T1059.001`.
pub(crate) fn number(technique: &Technique) -> &str {
    technique.id.find('.').map_or(technique.id.as_str(), |dot| &technique.id[dot..])
}

/// Breaks the rows into columns that are at most so high, those of one tactic about as high as one another.
pub(crate) fn columns<'a>(tactics: Vec<Vec<Row<'a>>>, sizes: &Sizes, high: f32) -> Vec<Column<'a>> {
    let mut columns = Vec::new();
    for (tactic, rows) in tactics.into_iter().enumerate() {
        let heights: Vec<Height> = rows.iter().map(|row| Height::of(row, sizes)).collect();
        let wanted = breaks(&heights, high).len();
        // The lowest height that needs no more columns.
        let (mut low, mut enough) = (total(&heights) / (wanted + 1) as f32, high);
        for _ in 0..12 {
            let middle = (low + enough) / 2.0;
            if breaks(&heights, middle).len() <= wanted { enough = middle } else { low = middle }
        }
        let mut rows = rows.into_iter();
        for (part, count) in breaks(&heights, enough).into_iter().enumerate() {
            columns.push(Column { tactic, rows: rows.by_ref().take(count).collect(), continued: part > 0 });
        }
    }
    columns
}

/// The height of a column as it is drawn.
pub(crate) fn height(column: &Column<'_>, sizes: &Sizes) -> f32 {
    column.rows.iter().map(|row| row.height(sizes) + Sizes::ROW_GAP).sum()
}

/// How high rows would be, at most, in columns of this height, and how many columns there would be.
pub(crate) fn extent(tactics: &[Vec<Row<'_>>], sizes: &Sizes, high: f32) -> (usize, f32) {
    let mut all = (0, 0.0_f32);
    for rows in tactics {
        let heights: Vec<Height> = rows.iter().map(|row| Height::of(row, sizes)).collect();
        let parts = breaks(&heights, high);
        all.0 += parts.len();
        all.1 = all.1.max(total(&heights).min(high));
    }
    all
}

/// The height of a row, and whether it leads others that belong to it.
struct Height {
    own: f32,
    below: bool,
}

impl Height {
    fn of(row: &Row<'_>, sizes: &Sizes) -> Height {
        let below = matches!(row, Row::Boxes(_) | Row::Cell { sub: true, .. });
        Height { own: row.height(sizes) + Sizes::ROW_GAP, below }
    }
}

fn total(heights: &[Height]) -> f32 {
    heights.iter().map(|height| height.own).sum()
}

/// How many rows stand in each column. A technique begins the next column with its sub-techniques, if they would be parted
/// for little room; it never ends a column whose sub-techniques begin the next.
fn breaks(heights: &[Height], high: f32) -> Vec<usize> {
    let mut parts = Vec::new();
    let (mut rows, mut sum) = (0, 0.0);
    for (at, height) in heights.iter().enumerate() {
        let below = heights[at + 1..].iter().take_while(|next| !height.below && next.below);
        let (mut group, mut second) = (height.own, 0.0);
        for next in below {
            group += next.own;
            second = if second == 0.0 { next.own } else { second };
        }
        let parted = sum + group > high && group <= high && sum > high * 0.7;
        if rows > 0 && (sum + height.own + second > high || parted) {
            parts.push(rows);
            (rows, sum) = (0, 0.0);
        }
        rows += 1;
        sum += height.own;
    }
    // A tactic without techniques has a column too.
    parts.push(rows);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Counts, Status, Tactic};

    const SIZES: Sizes = Sizes { column: 180.0, font: 10.0, boxes: false };

    fn matrix(ids: &[&str]) -> Matrix {
        let technique = |id: &&str| Technique {
            id: (*id).to_owned(),
            name: format!("Name of {id}"),
            tactics: vec!["execution".into()],
            parent: id.split_once('.').map(|(parent, _)| parent.to_owned()),
            status: Status::NotEvaluated,
            score: 0.0,
            detection_rules: 0,
            threat_actors: 0,
            validated_tests: 0,
            tests: 0,
            observed: 0,
            change: None,
            previous_status: None,
            previous_score: None,
        };
        let tactic = |name: &str| Tactic { short_name: name.into(), name: name.into(), ..Tactic::default() };
        Matrix {
            title: "Matrix".into(),
            scope: String::new(),
            tactics: vec![tactic("execution"), tactic("impact")],
            techniques: ids.iter().map(technique).collect(),
            counts: Counts::default(),
            coverage_percentage: 0.0,
            score: None,
            attack_version: String::new(),
            compared_with: None,
            as_of: None,
        }
    }

    fn shown(columns: &[Column<'_>]) -> Vec<String> {
        let rows = columns.iter().flat_map(|column| &column.rows);
        rows.flat_map(|row| match row {
            Row::Cell { technique, sub, .. } => vec![format!("{}{}", if *sub { ">" } else { "" }, technique.id)],
            Row::Boxes(techniques) => techniques.iter().map(|technique| format!(">{}", technique.id)).collect(),
        })
        .collect()
    }

    #[test]
    fn sub_techniques_follow_their_parents_and_stand_alone_without_them() {
        let matrix = matrix(&["T1001", "T1001.001", "T1001.002", "T1002", "T1003.001"]);
        for boxes in [false, true] {
            let sizes = Sizes { boxes, ..SIZES };
            let columns = columns(rows(&matrix, &sizes), &sizes, 1000.0);
            assert_eq!(shown(&columns), ["T1001", ">T1001.001", ">T1001.002", "T1002", "T1003.001"]);
            assert_eq!(columns.iter().map(|column| column.tactic).collect::<Vec<_>>(), [0, 1]);
        }
    }

    proptest! {
        #[test]
        fn every_technique_is_drawn_once_and_no_column_is_too_high(
            tops in 1_u32..40, subs in 0_u32..9, high in 60.0_f32..600.0, boxes: bool
        ) {
            let mut ids = Vec::new();
            for top in 0..tops {
                ids.push(format!("T{:04}", 1000 + top));
                ids.extend((0..(top * 7) % (subs + 1)).map(|sub| format!("T{:04}.{sub:03}", 1000 + top)));
            }
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let matrix = matrix(&ids);
            let sizes = Sizes { boxes, ..SIZES };
            let columns = columns(rows(&matrix, &sizes), &sizes, high);
            let shown: Vec<String> = shown(&columns).into_iter().map(|id| id.trim_start_matches('>').to_owned()).collect();
            prop_assert_eq!(shown, ids);
            for column in &columns {
                prop_assert!(height(column, &sizes) <= high + 0.5);
            }
        }
    }
}
