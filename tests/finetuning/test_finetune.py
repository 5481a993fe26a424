"""x."""


def test_x(place):
    run = place.finetune()
    print(sorted(p.relative_to(run.path).as_posix() for p in run.path.rglob("*")))
    print((run.path / "config.yaml").read_text())
    print(run.path, run.metrics)
