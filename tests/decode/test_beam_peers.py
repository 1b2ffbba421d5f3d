"""Beam search against Hugging Face's."""

import numpy as np
import pytest

from fastlstm.decode.beam import beam_search
from fastlstm.decode.beam_options import BeamOptions, Constraints


def hugging_face_model(torch, transformers, table):
    """A causal model whose logits depend on the position and the last id."""
    from transformers.modeling_outputs import CausalLMOutput

    class TableModel(transformers.PreTrainedModel, transformers.GenerationMixin):
        config_class = transformers.PretrainedConfig

        def __init__(self):
            super().__init__(transformers.PretrainedConfig(vocab_size=table.shape[-1]))
            self.table = torch.nn.Parameter(torch.tensor(table), requires_grad=False)

        def prepare_inputs_for_generation(self, input_ids, **rest):
            return {"input_ids": input_ids}

        def forward(self, input_ids, **rest):
            return CausalLMOutput(logits=self.table[input_ids.shape[1] - 1][input_ids[:, -1]][:, None])

    return TableModel()


@pytest.mark.filterwarnings("ignore")
def test_equals_hugging_face():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    length, end = 7, 1
    for seed in range(36):
        rng = np.random.default_rng(seed)
        table = (rng.normal(size=(length, 12, 12)) * 2).astype(np.float32)
        width, stopping = int(rng.integers(2, 7)), [False, True, "never"][seed % 3]
        alpha, minimum, ngram = float([0.0, 1.0, -0.5, 2.0][seed % 4]), seed % 5, seed // 2 % 4
        theirs = hugging_face_model(torch, transformers, table).generate(
            torch.tensor([[0]]),
            generation_config=transformers.GenerationConfig(
                num_beams=width, num_return_sequences=width, max_new_tokens=length, min_new_tokens=minimum,
                no_repeat_ngram_size=ngram, length_penalty=alpha, early_stopping=stopping, do_sample=False,
                eos_token_id=end, pad_token_id=end, return_dict_in_generate=True, output_scores=True, use_cache=False,
            ),
        )  # fmt: skip
        # Their history holds the start id, ours does not: as the first of the banned n-grams it makes a difference.
        ours = beam_search(
            lambda tokens, t, table=table: (table[t][tokens], t + 1), 0, state=0, beam_width=width, n_best=width,
            max_length=length, eos_id=end, length_penalty=alpha, early_stopping=stopping,
            constraints=Constraints(
                min_length=minimum, no_repeat_ngram=ngram, banned=[[0]] if ngram == 1 else []
            ),
            options=BeamOptions(length_formula="power"),
        )  # fmt: skip
        sequences = [tuple(row) for row in theirs.sequences[:, 1:].tolist()]
        cut = [ids[: ids.index(end)] if end in ids else ids for ids in sequences]
        assert [h.ids for h in ours] == cut, seed
        np.testing.assert_allclose([h.score for h in ours], theirs.sequences_scores, atol=1e-4)
