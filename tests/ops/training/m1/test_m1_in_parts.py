"""The stage m1_checkpoint over two processes that hold half of the model each."""

from training_processes import exit_codes, run_stage_of, two_processes

M1 = {
    "max_steps": 6,
    "gradient_accumulation": 2,
    "warmup_steps": 1,
    "sequence_length": 128,
    "learning_rate": 3e-3,
    "evaluation_documents": 2,
    "evaluation_characters": 400,
    "max_general_increase": 1.0,
    "replay_share": 0.125,
    "new_rows": {"method": "mean"},
}
FLOAT32 = {"precision": "float32", "device": "cpu", "threads": 1}


def test_x(training_settings, tmp_path):
    from conftest import spec_of

    settings = training_settings({"model": FLOAT32, "training": {"sharding": "full", "processes": 2, "m1": M1}})
    spec = spec_of("m1_checkpoint", settings)
    spec.write(tmp_path / "spec.json")
    calls = [((tmp_path / "spec.json",), {"environment": e}) for e in two_processes()]
    assert exit_codes(*calls, target=run_stage_of) == [0, 0]
