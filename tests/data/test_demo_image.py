import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from corgi.data.image import load_input
from corgi.data.preprocess import GTSRB

MODELS = Path(__file__).parents[2] / "models"
PICTURE = MODELS / "demo" / "no_entry.png"


def predicted(model):
    session = onnxruntime.InferenceSession(model)
    image = load_input(PICTURE, (3, 48, 48), None, GTSRB)
    return session.run(None, {"image": image[np.newaxis]})[0].argmax()


def test_the_script_draws_the_bundled_picture():
    spec = importlib.util.spec_from_file_location("draw_sign", MODELS / "demo" / "draw_sign.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    drawn, bundled = script.draw().astype(int), np.asarray(Image.open(PICTURE)).astype(int)
    # Another build of numpy may round a pixel to the next level.
    assert np.abs(drawn - bundled).max() <= 1


def test_the_bundled_model_sees_no_entry():
    assert predicted(MODELS / "gtsrb.onnx") == 17


def test_the_papers_model_sees_no_entry(data_dir):
    assert predicted(data_dir / "corgi_paper" / "gtsrb_gu2020.onnx") == 17
