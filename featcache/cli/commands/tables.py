"""Finished runs → a list, a table of scores, or the logs of an experiment tracker."""

from featcache.cli import options, parsing


def runs(corpus: options.ListedCorpus = None, as_json: options.AsJson = False) -> None:
    """List runs: the settings in which they differ, validation and test score, and date.

    Unfinished runs are listed with the number of their trainings and the command that continues them. The newest run
    comes last.
    """
    from featcache.cli.run_listing import print_run_list

    print_run_list(corpus, as_json=as_json)


def table(
    runs: options.TableRuns,
    rows: options.RowSettings = None,
    columns: options.ColumnSettings = None,
    metric: options.Metric = None,
    part: options.Part = "test",
    reference: options.Reference = None,
    form: options.GridFormat = None,
    out: options.TableOut = None,
) -> None:
    """Make a table of scores for a paper: text, Markdown, LaTeX or CSV.

    Each cell is the score of one run: mean and standard deviation over seeds, and the confidence interval. The best
    score of each column is bold, and scores that differ significantly from it are marked.
    """
    from featcache.cli.score_grids import print_score_grid
    from featcache.report.grid_formats import FORMATS

    print_score_grid(
        runs,
        rows=parsing.split(rows) or (),
        columns=parsing.split(columns) or (),
        metric=metric,
        part=parsing.read_choice("--part", part, ("test", "validation")),
        reference=reference,
        form=parsing.read_choice("--format", form, list(FORMATS)) if form else None,
        out=out,
    )


def track(
    runs: options.TableRuns,
    to: options.Tracker,
    out: options.TrackerOut = None,
    uri: options.TrackerUri = None,
) -> None:
    """Write finished runs to TensorBoard or MLflow: losses and scores of each epoch, scores, settings and figures.

    A run that was already written is not written again; if its results have changed, it is replaced.
    """
    from featcache.cli.tracking import track_runs
    from featcache.report.trackers import TRACKERS

    track_runs(runs, to=parsing.read_choice("--to", to, TRACKERS), out=out, uri=uri)
