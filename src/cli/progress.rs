//! How far long work is: a bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar is drawn at most.
const DRAWN_PER_S: u8 = 10;

/// A bar for `total` things, if they are more than `above`; otherwise one that is not seen.
pub(super) fn bar(total: u64, above: u64) -> ProgressBar {
    if total <= above {
        return ProgressBar::hidden();
    }
    let template = "{bar:30} {percent:>3}%  {human_pos} of {human_len}  {eta} left";
    drawn(Some(total), template)
}

/// A bar in this style; it is hidden where standard error is no terminal.
pub(super) fn drawn(total: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(DRAWN_PER_S));
    // The templates are ours; a mistake in one shows the plain bar.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
