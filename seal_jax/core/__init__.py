"""The method on arrays: no files, no tokenizer, no settings, no text.

One outer iteration of SEAL (Zweiger et al., 2025, Algorithm 1), line by line:

    4  self-edit ~ LM(. | context)        generate
    5  LM' <- SFT(LM, self-edit)          init_candidates, update_candidates
    6  answers ~ LM'(. | question)        answers_of_candidates, gold_log_likelihoods
    7  reward <- r(answers, question)     says the task, on the host
    8  LM <- RL update (ReST-EM)          E-step: select; M-step: epoch_batches, m_step

These are the operations; what they take and give is defined beside them, in the modules.
`specs` alone can be imported without jax.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from seal_jax.core.delta import Delta, DeltaSpec, merge
    from seal_jax.core.delta import init as init_delta
    from seal_jax.core.evaluate import (
        Queries,
        answers_of_candidates,
        gold_log_likelihoods,
        gold_log_likelihoods_of_candidates,
    )
    from seal_jax.core.inner import (
        InnerHParams,
        InnerProblem,
        InnerSettings,
        Schedule,
        init_candidates,
        update_candidates,
    )
    from seal_jax.core.restem import (
        Batch,
        MStepSettings,
        SelectionRule,
        SftExample,
        epoch_batches,
        select,
    )
    from seal_jax.core.restem import init as init_m_step
    from seal_jax.core.restem import update as m_step
    from seal_jax.core.sampling import SampleSettings, generate
