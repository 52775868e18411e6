"""Chalcogen vacancies of MX2 monolayers: where they are, how sure that is, and how many there are in all."""

from emstore.processors.measure.vacancies.frames import Vacancies, VacanciesParams

__all__ = ["Vacancies", "VacanciesParams"]
