"""transformers' Trainer on every kind of task, encoded and decoded as transformers' own examples do it.

From tunesmith come only what makes a pair fair: the starting weights and the order of the rows.
"""

from __future__ import annotations

import json
import re
import string
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import SequentialSampler

from tunesmith import prepare
from tunesmith import recipe as recipes
from tunesmith.core.seeding import seed_of
from tunesmith.data.load import load as load_data
from tunesmith.models import builtin
from tunesmith.prepare import Prepared
from tunesmith.train.batches import order

Row = dict[str, Any]
Feature = dict[str, Any]
PLAIN = "### Instruction:\n{prompt}\n\n### Response:\n"


@dataclass(frozen=True)
class Peer:
    """How one kind of task is done: a model, the features of a row, what its outputs come to."""

    model: Any
    tokenizer: Any
    features: Callable[[Row], list[Feature]]
    score: Callable[[Any, list[Row]], dict[str, float]]
    loss: Callable[[Any, dict[str, torch.Tensor]], torch.Tensor] | None = None


def run(kind: str, values: dict[str, Any]) -> dict[str, float]:
    """Train and score one kind of task with a recipe's settings."""
    recipe = prepare.settle(recipes.from_values(values))
    splits = load_data(recipe.data, recipe.task.columns())
    prepare.learn(recipe, splits)
    prepared = prepare.prepare(recipe, splits)
    rows = {split: read(values["data"][split]) for split in ("train", "test")}
    assert len(prepared.batches.rows) == len(rows["train"])
    peer = KINDS[kind](prepared, rows["train"], values["task"])
    peer.model.load_state_dict(prepared.backbone.model.state_dict())
    seconds = fit(peer, in_our_order(rows["train"], prepared), values)
    peer.model.eval()
    with torch.inference_mode(), torch.autocast("cpu", enabled=recipe.train.precision == "bfloat16"):
        return {**peer.score(peer, rows["test"]), "seconds": seconds}


def in_our_order(rows: list[Row], prepared: Prepared) -> list[Row]:
    """The rows of all epochs, one after the other, in the batches of our loop."""
    settings, sizes = prepared.recipe.train, prepared.batches.lengths
    orders = [
        order(sizes, settings.batch_size, seed_of(settings.seed, f"order {epoch}"))
        for epoch in range(int(settings.epochs))
    ]
    return [rows[place] for updates in orders for update in updates for place in update]


def fit(peer: Peer, rows: list[Row], values: dict[str, Any]) -> float:
    """Train; returns the seconds it took."""
    settings = values["train"]

    class Paired(transformers.Trainer):  # type: ignore[misc]
        """Trainer on rows in the order they have; dropout starts at the seed, as ours does."""

        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            if self.state.global_step == 0:
                torch.manual_seed(settings["seed"])
            return super().training_step(*args, **kwargs)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if peer.loss is None:
                return super().compute_loss(model, inputs, *args, **kwargs)
            return peer.loss(model, inputs)

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=settings["batch_size"],
            learning_rate=settings["learning_rate"],
            warmup_steps=values["schedules"][0]["warmup"],
            weight_decay=settings["weight_decay"],
            max_grad_norm=1.0,
            lr_scheduler_type="linear",
            optim="adamw_torch_fused",
            bf16=settings["precision"] == "bfloat16",
            use_cpu=True,
            seed=settings["seed"],
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        # Texts are encoded beforehand, images as they are needed: so do the examples of transformers.
        features = Opened(rows, peer) if values["task"]["name"] == "classify_image" else [*map(peer.features, rows)]
        worker = Paired(peer.model, arguments, train_dataset=features, data_collator=lambda some: padded(some, peer))
        began = time.perf_counter()
        worker.train()
        return time.perf_counter() - began


@dataclass(frozen=True)
class Opened:
    """Rows whose features are made when they are asked for."""

    rows: list[Row]
    peer: Peer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> list[Feature]:
        return self.peer.features(self.rows[place])


def padded(rows: list[list[Feature]], peer: Peer) -> dict[str, torch.Tensor]:
    """The features of some rows as one batch; labels are padded with -100."""
    features = [feature for row in rows for feature in row]
    batch: dict[str, torch.Tensor] = {}
    longest = max((len(one["input_ids"]) for one in features if "input_ids" in one), default=0)
    pad = {"labels": -100, "input_ids": getattr(peer.tokenizer, "pad_token_id", 0)}
    for name in features[0]:
        values = [one[name] for one in features]
        if isinstance(values[0], list):
            width = max(map(len, values)) if name == "labels" else longest
            values = [value + [pad.get(name, 0)] * (width - len(value)) for value in values]
        batch[name] = torch.stack(values) if isinstance(values[0], torch.Tensor) else torch.tensor(values)
    return batch


def outputs(peer: Peer, rows: list[Row], drop: tuple[str, ...] = ()) -> list[Any]:
    """The model's outputs, a batch of eight rows at a time."""
    found = []
    for start in range(0, len(rows), 8):
        some = [peer.features(row) for row in rows[start : start + 8]]
        batch = padded(some, peer)
        found.append((some, peer.model(**{name: value for name, value in batch.items() if name not in drop})))
    return found


def read(path: str) -> list[Row]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def _source(prepared: Prepared) -> str:
    name = prepared.recipe.model.name
    return str(builtin.find("minilm")) if name == "builtin:minilm" else name


def _minilm(prepared: Prepared, auto: Any, **head: Any) -> tuple[Any, Any]:
    source = _source(prepared)
    return auto.from_pretrained(source, dtype=torch.float32, **head), transformers.AutoTokenizer.from_pretrained(source)


def classify(prepared: Prepared, train: list[Row], task: dict[str, Any]) -> Peer:
    """As in run_classification.py; scores are standardised for `regress`."""
    texts = [task[name] for name in ("text", "pair") if name in task]
    regress = task["name"] == "regress"
    names = [] if regress else sorted({row[task["label"]] for row in train})
    auto = transformers.AutoModelForSequenceClassification
    model, tokenizer = _minilm(prepared, auto, num_labels=len(names) or 1)
    scores = [row["score"] for row in train] if regress else [0.0, 1.0]
    mean, deviation = float(np.mean(scores)), float(np.std(scores))

    def features(row: Row) -> list[Feature]:
        found = dict(tokenizer(*[row[text] for text in texts], truncation=True, max_length=512))
        if regress:
            return [{**found, "labels": (row["score"] - mean) / deviation}]
        return [{**found, "labels": names.index(row[task["label"]])}]

    def score(peer: Peer, rows: list[Row]) -> dict[str, float]:
        from scipy.stats import spearmanr

        logits = torch.cat([out.logits.float() for _, out in outputs(peer, rows, drop=("labels",))])
        if regress:
            return {"spearman": 100 * spearmanr(logits[:, 0], [row["score"] for row in rows]).statistic}
        answers = [names[place] for place in logits.argmax(-1)]
        right = [row[task["label"]] == answer for row, answer in zip(rows, answers, strict=True)]
        return {"accuracy": 100 * float(np.mean(right))}

    return Peer(model, tokenizer, features, score)


def tag(prepared: Prepared, train: list[Row], task: dict[str, Any]) -> Peer:
    """As in run_ner.py: the first piece of a word carries its label; seqeval counts."""
    names = list(prepared.backbone.model.config.id2label.values())
    model, tokenizer = _minilm(prepared, transformers.AutoModelForTokenClassification, num_labels=len(names))

    def features(row: Row) -> list[Feature]:
        found = tokenizer(row["tokens"], is_split_into_words=True, truncation=True, max_length=512)
        words = found.word_ids()
        firsts = [word is not None and word not in words[:place] for place, word in enumerate(words)]
        labels = [names.index(row["tags"][word]) if first else -100 for word, first in zip(words, firsts, strict=True)]
        return [{**found, "labels": labels}]

    def score(peer: Peer, rows: list[Row]) -> dict[str, float]:
        from seqeval.metrics import f1_score

        truths, answers, place = [], [], 0
        for some, out in outputs(peer, rows, drop=("labels",)):
            for (feature,), logits in zip(some, out.logits.float(), strict=True):
                chosen = [names[best] for best in logits.argmax(-1)]
                kept = [one for one, label in zip(chosen, feature["labels"], strict=False) if label != -100]
                tags = rows[place]["tags"]
                # A word of which the tokenizer leaves nothing is no entity.
                ids = tokenizer(rows[place]["tokens"], is_split_into_words=True).word_ids()
                seen = sorted({word for word in ids if word is not None})
                full = ["O"] * len(tags)
                for word, one in zip(seen, kept, strict=False):
                    full[word] = one
                truths.append(tags)
                answers.append(full)
                place += 1
        return {"f1": 100 * float(f1_score(truths, answers))}

    return Peer(model, tokenizer, features, score)


def answer_span(prepared: Prepared, train: list[Row], task: dict[str, Any]) -> Peer:
    """As in run_qa.py: windows with a stride, answers by offsets, the best of twenty starts and ends."""
    model, tokenizer = _minilm(prepared, transformers.AutoModelForQuestionAnswering)
    cut: dict[str, Any] = {"truncation": "only_second", "max_length": task["max_length"], "stride": task["stride"]}

    def encoded(row: Row) -> Any:
        return tokenizer(
            row["question"], row["context"], return_overflowing_tokens=True, return_offsets_mapping=True, **cut
        )

    def features(row: Row) -> list[Feature]:
        found, kept = encoded(row), []
        text, begin = row["answers"]["text"][0], row["answers"]["answer_start"][0]
        for number, ids in enumerate(found["input_ids"]):
            sequence, offsets = found.sequence_ids(number), found["offset_mapping"][number]
            inside = [place for place, which in enumerate(sequence) if which == 1]
            first, last = 0, 0
            if offsets[inside[0]][0] <= begin and offsets[inside[-1]][1] >= begin + len(text):
                first = max(place for place in inside if offsets[place][0] <= begin)
                last = min(place for place in inside if offsets[place][1] >= begin + len(text))
            one = {name: found[name][number] for name in ("attention_mask", "token_type_ids")}
            kept.append({"input_ids": ids, **one, "start_positions": first, "end_positions": last})
        return kept

    def best(row: Row, starts: Any, ends: Any) -> str:
        return _best_span(row["context"], encoded(row), starts, ends)

    def score(peer: Peer, rows: list[Row]) -> dict[str, float]:
        texts: list[str] = []
        for some, out in outputs(peer, rows, drop=("start_positions", "end_positions")):
            window = 0
            for windows in some:
                span = slice(window, window + len(windows))
                starts, ends = (scores[span].float().numpy() for scores in (out.start_logits, out.end_logits))
                texts.append(best(rows[len(texts)], starts, ends))
                window += len(windows)
        golds = [row["answers"]["text"] for row in rows]
        pairs = [([_plain(gold) for gold in some], _plain(text)) for some, text in zip(golds, texts, strict=True)]
        exact = [max(gold == text for gold in some) for some, text in pairs]
        f1 = [max(_shared(gold, text) for gold in some) for some, text in pairs]
        return {"exact_match": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(f1))}

    return Peer(model, tokenizer, features, score)


def _plain(text: str) -> list[str]:
    """The words that the SQuAD script compares: small letters, no punctuation, no articles."""
    letters = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", letters).split()


def _shared(gold: list[str], text: list[str]) -> float:
    """F1 over words, as the SQuAD script counts it."""
    common = sum((Counter(gold) & Counter(text)).values())
    return 2 * common / (len(gold) + len(text)) if common else float(gold == text)


def _best_span(context: str, found: Any, starts: Any, ends: Any) -> str:
    chosen = (-np.inf, "")
    for number in range(len(found["input_ids"])):
        inside = [which == 1 for which in found.sequence_ids(number)]
        offsets = found["offset_mapping"][number]
        for first in np.argsort(-starts[number])[:20]:
            for last in np.argsort(-ends[number])[:20]:
                fits = max(first, last) < len(inside) and inside[first] and inside[last]
                total = starts[number][first] + ends[number][last]
                if fits and first <= last < first + 30 and total > chosen[0]:
                    chosen = (total, context[offsets[first][0] : offsets[last][1]])
    return chosen[1]


def embed(prepared: Prepared, train: list[Row], task: dict[str, Any]) -> Peer:
    """As sentence-transformers' CosineSimilarityLoss: mean pooling, squared error of the cosine against score / 5."""
    model, tokenizer = _minilm(prepared, transformers.AutoModel)

    def features(row: Row) -> list[Feature]:
        both = [dict(tokenizer(row[text], truncation=True, max_length=512)) for text in (task["text"], task["pair"])]
        return [{**one, "labels": row["score"] / 5} for one in both]

    def cosines(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        states = model(**{name: value for name, value in batch.items() if name != "labels"}).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        vectors = (states.float() * mask).sum(1) / mask.sum(1)  # [texts, hidden]
        return torch.nn.functional.cosine_similarity(vectors[0::2], vectors[1::2])

    def loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.mse_loss(cosines(model, batch), batch["labels"][0::2].float())

    def score(peer: Peer, rows: list[Row]) -> dict[str, float]:
        from scipy.stats import spearmanr

        found = []
        for start in range(0, len(rows), 8):
            batch = padded([features(row) for row in rows[start : start + 8]], peer)
            found.append(cosines(peer.model, batch))
        return {"spearman": 100 * spearmanr(torch.cat(found), [row["score"] for row in rows]).statistic}

    return Peer(model, tokenizer, features, score, loss)


def classify_image(prepared: Prepared, train: list[Row], task: dict[str, Any]) -> Peer:
    """As in run_image_classification.py, without augmentation."""
    from PIL import Image

    processor = prepared.backbone.tokenizer
    model = transformers.AutoModelForImageClassification.from_config(prepared.backbone.model.config)
    names = sorted({row["label"] for row in train})
    folder = Path(prepared.recipe.data.train).parent

    def features(row: Row) -> list[Feature]:
        with Image.open(folder / row["image"]) as image:
            mode = "L" if prepared.backbone.model.config.num_channels == 1 else "RGB"
            pixels = processor(image.convert(mode), return_tensors="pt", **_channel(mode))["pixel_values"][0]
        return [{"pixel_values": pixels, "labels": names.index(row["label"])}]

    def score(peer: Peer, rows: list[Row]) -> dict[str, float]:
        logits = torch.cat([out.logits.float() for _, out in outputs(peer, rows, drop=("labels",))])
        right = [names[place] == row["label"] for place, row in zip(logits.argmax(-1), rows, strict=True)]
        return {"accuracy": 100 * float(np.mean(right))}

    return Peer(model, processor, features, score)


def _channel(mode: str) -> dict[str, str]:
    return {"input_data_format": "none"} if mode == "L" else {}


def generate(prepared: Prepared, train: list[Row], task: dict[str, Any]) -> Peer:
    """Prompt and answer as one text, the loss on the answer and its end; greedy answers."""
    tokenizer, config = prepared.backbone.tokenizer, prepared.backbone.model.config
    both = bool(config.is_encoder_decoder)
    auto = transformers.AutoModelForSeq2SeqLM if both else transformers.AutoModelForCausalLM
    model = auto.from_config(config)
    prompt, answer = task["roles"]["prompt"], task["roles"]["completion"]
    limit, stop = task["max_length"], tokenizer.eos_token_id

    def source(row: Row) -> list[int]:
        text = row[prompt] if both else PLAIN.format(prompt=row[prompt])
        ids = list(tokenizer(text)["input_ids"])
        return ids if both or ids[-1] != stop else ids[:-1]

    def features(row: Row) -> list[Feature]:
        target = [*tokenizer(row[answer], add_special_tokens=False)["input_ids"], stop]
        if both:
            ids = source(row)[:limit]
            return [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": target[:limit]}]
        text = tokenizer(PLAIN.format(prompt=row[prompt]) + row[answer])["input_ids"]
        text = [one for one in text if one != stop] + [stop]
        start = len(source(row))
        labels = [-100] * start + text[start:]
        return [{"input_ids": text[:limit], "attention_mask": [1] * min(limit, len(text)), "labels": labels[:limit]}]

    def score(peer: Peer, rows: list[Row]) -> dict[str, float]:
        import sacrebleu
        from rouge_score.rouge_scorer import RougeScorer

        references, texts = defaultdict(list), {}
        for row in rows:
            ids = torch.tensor([source(row)])
            given = peer.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, eos_token_id=stop,
                pad_token_id=tokenizer.pad_token_id, max_new_tokens=task["sampling"]["max_new_tokens"], use_cache=True,
            )[0]  # fmt: skip
            text = tokenizer.decode(given if both else given[ids.shape[1] :], skip_special_tokens=True)
            texts[len(texts)] = text.strip()
            references[len(references)].append(row[answer])
        told = [references[place][0] for place in texts]
        bleu = sacrebleu.corpus_bleu(list(texts.values()), [told]).score
        scorer = RougeScorer(["rougeL"])
        rouge = [scorer.score(gold, text)["rougeL"].fmeasure for gold, text in zip(told, texts.values(), strict=True)]
        return {"bleu": bleu, "rougeL": 100 * float(np.mean(rouge))}

    return Peer(model, tokenizer, features, score)


KINDS: dict[str, Callable[[Prepared, list[Row], dict[str, Any]], Peer]] = {
    "classify": classify,
    "regress": classify,
    "tag": tag,
    "answer_span": answer_span,
    "embed": embed,
    "classify_image": classify_image,
    "generate": generate,
}
