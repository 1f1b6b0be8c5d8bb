"""Starts a run from an exported checkpoint, to train on.  usage: from_checkpoint.py CHECKPOINT_DIR RUN"""
import os, shutil, sys
import torch
from safetensors.torch import load_file
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import export as X, train as T

source, run = sys.argv[1:3]
weights, model = load_file(source + "/model.safetensors"), T.Tiny()
with torch.no_grad():
    for name, (tensor, quantised) in X.tensors(model).items():
        w = weights[name]
        w = X.dequant_weight(w, weights[name + "_scale_inv"]) if quantised == 1 else w.float()
        tensor.copy_(w.view(tensor.shape))
os.makedirs(run, exist_ok=True)
torch.save(model.state_dict(), run + "/ck.pt")
shutil.copy(source + "/tokenizer.json", run + "/tokenizer.json")
